"""RandAugment and random erasing: timm's own, drawn by (seed, epoch, image) alone."""

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import RandAugment
from timm.data.random_erasing import RandomErasing

from micl_bench.data.folder import Folder, open_folder
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels, normalise
from micl_bench.engine.supervised.augment import (
    AugmentConfig,
    LabelledBatch,
    augmented_batches,
    erased_box,
    rand_augment,
)
from micl_bench.runs.seeded import seeded
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream

PIXELS = Pixels(img_size=32, crop_scale=(0.3, 1.0), flip=True)
NOTATION = "rand-m9-mstd0.5-inc1"


@pytest.fixture
def folder(few_digits: Path) -> Folder:
    return open_folder(few_digits / "train")


def batches(folder: Folder, config: AugmentConfig | None = None, **options) -> list[LabelledBatch]:
    values = {"batch_size": 16, "seed": 3, "steps": range(7), "mean": IMAGENET_MEAN} | options
    return list(augmented_batches(folder, PIXELS, config or AugmentConfig(), **values))


def assert_same(ours: Iterable[LabelledBatch], theirs: Iterable[LabelledBatch]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one.epoch, one.index_N.tolist()) == (other.epoch, other.index_N.tolist())
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert np.array_equal(one.boxes_E5, other.boxes_E5)
        assert torch.equal(one.noise_T, other.noise_T)


def test_workers_a_restart_and_other_draws_change_nothing(folder: Folder) -> None:
    whole = batches(folder)
    assert_same(batches(folder, num_workers=2), whole)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate()[1], np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    again = batches(folder, steps=range(4, 7))
    after = random.getstate()[1], np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert_same(again, whole[4:])
    # The loader itself draws one number from torch's; python's and numpy's stay as they were.
    assert after[:2] == before[:2]


def test_processes_share_what_one_would_get(folder: Folder) -> None:
    for whole, *parts in zip(
        batches(folder), *(batches(folder, part=(rank, 2)) for rank in (0, 1)), strict=True
    ):
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        ours = [normalise(batch.images) for batch in (whole, *parts)]
        for batch, images in zip((whole, *parts), ours, strict=True):
            batch.erase(images)
        assert torch.equal(torch.cat(ours[1:]), ours[0])


def test_an_image_is_augmented_anew_each_epoch_and_seed(folder: Folder) -> None:
    def by_index(seed: int, steps: range) -> dict[int, torch.Tensor]:
        found = {}
        for batch in batches(folder, seed=seed, steps=steps):
            found |= dict(zip(batch.index_N.tolist(), batch.images, strict=True))
        return found

    first, second, other = by_index(3, range(5)), by_index(3, range(5, 10)), by_index(4, range(5))
    assert first.keys() == second.keys() == set(range(80))
    for another in (second, other):
        same = sum(torch.equal(first[index], another[index]) for index in first)
        assert same < 8


def test_the_generators_are_given_back() -> None:
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with seeded(1, 2, 3, stream=Stream.AUGMENT):
            drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
    with seeded(1, 2, 3, stream=Stream.ERASE):
        assert (random.random(), np.random.rand(), torch.rand(1).item()) != drawn[0]
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_rand_augment_is_what_timm_makes_of_the_published_words() -> None:
    # The call of MAE's fine-tuning.
    reference = create_transform(
        224,
        is_training=True,
        color_jitter=None,
        auto_augment=NOTATION,
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    (theirs,) = (step for step in reference.transforms if isinstance(step, RandAugment))
    ours = rand_augment(NOTATION, img_size=224, mean=IMAGENET_MEAN)
    assert (ours.num_layers, ours.choice_weights) == (theirs.num_layers, theirs.choice_weights)
    for one, other in zip(ours.ops, theirs.ops, strict=True):
        changed = {name for name, value in vars(other).items() if vars(one)[name] != value}
        assert changed == ({"aug_fn"} if one.name == "PosterizeIncreasing" else set())
    (erasing,) = (step for step in reference.transforms if isinstance(step, RandomErasing))
    assert vars(erasing) == vars(RandomErasing(0.25, mode="pixel", device="cpu"))
    kinds = [type(step).__name__ for step in reference.transforms]
    assert "ColorJitter" not in kinds
    # Crop and flip come before, noise over normalised pixels last, as here.
    assert kinds.index("RandAugment") == 2
    assert kinds[-2:] == ["Normalize", "RandomErasing"]


def test_every_operation_works_at_every_magnitude() -> None:
    noise_HWC = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    image, seen = Image.fromarray(noise_HWC), set()
    for operation in rand_augment(NOTATION, img_size=24, mean=IMAGENET_MEAN).ops:
        operation.prob, operation.magnitude_std = 1.0, 0.0
        for operation.magnitude in (0, 2.5, 5, 9, 10):
            found = np.asarray(operation(image))
            if operation.name == "PosterizeIncreasing":
                bits = 4 - int(operation.magnitude * 0.4)
                assert (found == noise_HWC >> (8 - bits) << (8 - bits)).all()
                seen.add(bits)
    # 0 bits are a black image.
    assert seen == {4, 3, 2, 1, 0}


def test_erasing_is_what_timm_does_to_the_normalised_image(folder: Folder) -> None:
    plain = AugmentConfig(rand_augment="", erase_probability=0.0)
    (expected,), (found,) = (
        batches(folder, config, batch_size=80, steps=range(1))
        for config in (plain, AugmentConfig(rand_augment="", erase_probability=0.5))
    )
    erasing = RandomErasing(0.5, mode="pixel", device="cpu")
    images_NCHW = normalise(expected.images)
    for index, image_CHW in zip(expected.index_N, images_NCHW, strict=True):
        with seeded(3, 0, int(index), stream=Stream.ERASE):
            erasing(image_CHW)
    ours_NCHW = normalise(found.images)
    found.erase(ours_NCHW)
    assert torch.equal(ours_NCHW, images_NCHW)
    assert 20 < len(found.boxes_E5) < 60


def test_erased_boxes_have_the_published_sizes() -> None:
    shares = []
    for index in range(400):
        with seeded(0, 0, index, stream=Stream.ERASE):
            if found := erased_box(64, 0.25):
                (top, left, height, width), noise_CHW = found
                assert noise_CHW.shape == (3, height, width)
                assert min(top, left) >= 0
                assert max(top + height, left + width) <= 64
                shares.append(height * width / 64**2)
    # 400 x 0.25 = 100, deviation 8.7; shares uniform in 0.02 to 1/3.
    assert 70 < len(shares) < 130
    assert 0.015 < min(shares) < max(shares) < 0.345
    assert np.mean(shares) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.03)


@pytest.mark.parametrize("notation", ["rand-q9", "augmix-m3", "9"])
def test_words_that_timm_does_not_know_are_refused(notation: str) -> None:
    with pytest.raises(InputError, match="timm's notation"):
        AugmentConfig(rand_augment=notation)


def test_a_probability_is_one() -> None:
    with pytest.raises(InputError, match="erase_probability"):
        AugmentConfig(erase_probability=1.5)
