"""Colours of patches, maps of features, similarities of views: each against a plain twin."""

import dataclasses
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from micl_bench.backbone import encode_patches, named_arch
from micl_bench.checkpoints import load_checkpoint
from micl_bench.data.folder import open_folder, read_image
from micl_bench.data.pixels import Pixels, evaluation_pixels, normalise
from micl_bench.engine.frozen.pictures.feature_map import images_of_classes, map_arrays
from micl_bench.engine.frozen.pictures.network_pictures import (
    as_colours,
    chosen_images,
    patch_arrays,
    principal_components,
    spread,
)
from micl_bench.engine.frozen.pictures.view_similarity import (
    cosines,
    features_of_views,
    similarity_arrays,
)
from micl_bench.losses import view_cosines
from micl_bench.objectives.micl import MiCL
from micl_bench.patches import gather_patches
from micl_bench.runtime.errors import InputError

CPU = torch.device("cpu")
PIXELS = Pixels(img_size=32, crop_pct=1.0)


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    tokens = np.random.default_rng(0).normal(size=(60, 7)) @ np.diag([9, 5, 3, 1, 1, 1, 1])
    scores, explained = principal_components(tokens)
    centred = tokens - tokens.mean(axis=0)
    left, singular, loadings = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :3] * singular[:3]
    for component in range(3):
        sign = np.sign(loadings[component][np.abs(loadings[component]).argmax()])
        np.testing.assert_allclose(scores[:, component], sign * expected[:, component])
    np.testing.assert_allclose(explained, singular[:3] ** 2 / (singular**2).sum())


def test_components_keep_their_sign_when_all_tokens_are_mirrored_in_order() -> None:
    tokens = np.random.default_rng(1).normal(size=(40, 5))
    scores, _ = principal_components(tokens)
    np.testing.assert_allclose(principal_components(tokens[::-1])[0], scores[::-1], atol=1e-12)


def test_colours_run_from_dark_to_bright() -> None:
    colours = as_colours(np.repeat(np.arange(101.0)[:, None], 3, axis=1))
    assert colours[:2].max() == 0
    assert colours[-2:].min() == 255
    assert colours[50].tolist() == [128, 128, 128]
    assert as_colours(np.ones((5, 3))).max() == 0


def test_too_few_patches_are_an_error() -> None:
    with pytest.raises(InputError, match="take 3 patches, not 2"):
        principal_components(np.ones((2, 8)))


def test_patch_arrays_leave_out_cls_and_share_components() -> None:
    checkpoint = load_checkpoint("random:vit_demo_patch4_32")
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    arrays = patch_arrays(checkpoint, images, device=CPU)
    with torch.no_grad():
        tokens = checkpoint.backbone().forward_features(checkpoint.normalise(images))[:, 1:]
    expected = as_colours(principal_components(tokens.reshape(3 * 64, -1).double().numpy())[0])
    difference = arrays["colours_NYXC"].reshape(-1, 3).astype(int) - expected
    assert np.abs(difference).max() <= 1


def test_images_are_spread_over_classes_evenly() -> None:
    labels = np.array([0] * 10 + [1] * 3 + [4] * 10 + [5] * 10)
    chosen = images_of_classes(labels, number=12, classes=3)
    assert labels[chosen].tolist() == [0] * 4 + [1] * 3 + [5] * 4
    assert chosen[:4].tolist() == [0, 3, 6, 9]
    assert spread(5, 9).tolist() == [0, 1, 2, 3, 4]


def test_a_map_keeps_groups_together_and_its_bytes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([3, 1, 7], 20)
    features = rng.normal(size=(60, 16)) * 0.1 + rng.normal(size=(10, 16))[labels]
    classes = tuple(f"class {i}" for i in range(8))
    maps = [
        map_arrays(features * scale, labels, classes, perplexity=10, seed=0) for scale in (1, 1)
    ]
    np.testing.assert_array_equal(maps[0]["places_N2"], maps[1]["places_N2"])
    assert maps[0]["classes"].tolist() == ["class 1", "class 3", "class 7"]
    assert maps[0]["classes"][maps[0]["label_N"][[0, 20, 40]]].tolist() == [
        "class 3",
        "class 1",
        "class 7",
    ]
    places, label = maps[0]["places_N2"], maps[0]["label_N"]
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(60)
    assert (label[distance.argmin(axis=1)] == label).all()


@pytest.mark.parametrize(("images", "perplexity", "words"), [(3, 1, "4 images"), (9, 9, "below 9")])
def test_a_map_of_too_little_is_an_error(images: int, perplexity: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        map_arrays(
            np.eye(images), np.zeros(images, dtype=int), ("",), perplexity=perplexity, seed=0
        )


def test_cosines_are_those_of_all_pairs_one_by_one() -> None:
    features = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0)).double()
    same, other = [], []
    for i, j, a, b in product(range(5), range(5), range(3), range(3)):
        if a != b:
            one, two = features[i, a], features[j, b]
            cosine = float(one @ two / (one.norm() * two.norm()))
            (same if i == j else other).append(cosine)
    positive, negative = cosines(features)
    np.testing.assert_allclose(np.sort(positive), np.sort(same), atol=1e-6)
    np.testing.assert_allclose(np.sort(negative), np.sort(other), atol=1e-6)
    arrays = similarity_arrays(features, kappa=0.5)
    means = [value.item() for value in view_cosines(features)]
    np.testing.assert_allclose(arrays["cosine_means"], means, atol=1e-6)
    assert arrays["cosine_positive_B"].sum() == len(same) == 5 * 6
    assert arrays["tsp_negative_B"].sum() == len(other) == 20 * 6
    expected = np.mean([0.5 * (1 + c) / (1 + (1 - c) * 0.5) for c in other])
    assert arrays["tsp_means"][1] == pytest.approx(expected, abs=1e-6)
    first = arrays["cosine_edges_E"][:2]
    inside = [c for c in same if first[0] <= c < first[1]]
    assert arrays["cosine_positive_B"][0] == len(inside)


def test_views_are_encoded_as_in_pre_training(few_digits: Path) -> None:
    checkpoint = load_checkpoint("random:vit_demo_patch4_32")
    source = open_folder(few_digits / "val")
    wants = MiCL(MiCL.Config(mask_ratio=0.5)).wants
    options: dict[str, Any] = {"precision": "fp32", "seed": 3, "number": 7, "device": CPU}
    features = features_of_views(checkpoint, source, wants, PIXELS, **options)
    index = spread(len(source), 7)
    keep = wants(named_arch("vit_demo_patch4_32")).draw(3, 0, index)
    images = torch.stack([evaluation_pixels(read_image(source.paths[i]), PIXELS) for i in index])
    vit = checkpoint.backbone()
    with torch.no_grad():
        patches = gather_patches(normalise(images), keep, 4)
        tokens = vit.norm(encode_patches(vit, patches, keep))  # type: ignore[arg-type]
        expected = tokens[:, 0].unflatten(0, keep.shape[:2])
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


def test_a_network_with_registers_has_no_views(few_digits: Path) -> None:
    plain = load_checkpoint("random:vit_demo_patch4_32")
    arch = dataclasses.replace(plain.arch, num_registers=4)
    other = dataclasses.replace(plain, content=dataclasses.replace(plain.content, arch=arch))
    options: dict[str, Any] = {"precision": "fp32", "seed": 0, "number": 7, "device": CPU}
    source = open_folder(few_digits / "val")
    with pytest.raises(InputError, match=r"no plain ViT with \[CLS\]"):
        features_of_views(other, source, MiCL().wants, PIXELS, **options)


def test_images_are_chosen_from_first_to_last(few_digits: Path) -> None:
    source = open_folder(few_digits / "val")
    images, names = chosen_images(source, PIXELS, 4)
    assert images.shape == (4, 3, 32, 32)
    assert [names[0], names[-1]] == [str(source.names[0]), str(source.names[-1])]
