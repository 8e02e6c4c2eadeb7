"""Views that are crops of their own: what PIL crops, changed; the same however a batch is made."""

import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch
from micl_bench.data.folder import Folder, open_folder
from micl_bench.data.own_crops import Crop, CutCrops
from micl_bench.data.packed.pack import pack_folder
from micl_bench.data.packed.store import Store
from micl_bench.data.photometric import Photometric, changed, draw_changes
from micl_bench.data.pixels import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Pixels,
    training_crops,
    training_pixels,
)
from micl_bench.data.source import Source
from micl_bench.data.to_device import device_batches, tensors_of
from micl_bench.data.visible import Patches, Seen, Visible
from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.objectives import (
    Bound,
    Objective,
    ObjectiveConfig,
    Output,
    disjoint_views,
    whole_crops,
)
from micl_bench.patches import patchify, unpatchify
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import epoch_order

SEED, BATCH, STEPS = 7, 12, range(4, 8)
PIXELS = Pixels(img_size=24, crop_pct=1.0)
ARCH = Arch(name="test", img_size=24, patch_size=4, width=8, depth=1, num_heads=1)
NOTHING = Photometric()
STRONG = Photometric(
    jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=0.5
)
FIRST = Crop(scale=(0.4, 1.0), flip=True, photometric=STRONG)
SECOND = Crop(
    scale=(0.1, 0.4), flip=False, photometric=dataclasses.replace(STRONG, blur=0.1, solarise=0.5)
)
WANTS = whole_crops(ARCH, (FIRST, SECOND))


@pytest.fixture(scope="module")
def folder(few_digits: Path) -> Folder:
    return open_folder(few_digits / "train")


@pytest.fixture(scope="module")
def store(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("pictures") / "store"
    return pack_folder(folder.root, out, layout="image", size=32).store


def take(
    source: Source, wants: Patches = WANTS, steps: range = STEPS, **more: Any
) -> list[Visible]:
    options = {"batch_size": BATCH, "seed": SEED, **more}
    return list(wants.batches(source, PIXELS, steps=steps, **options))


def images(batch: Visible) -> Tensor:
    """The crops of a batch, (N, V, 3, H, W)."""
    seen = batch.seen()
    N, V, L = seen.keep_NVK.shape
    return unpatchify(seen.visible_NMP.view(N * V, L, -1), 4).unflatten(0, (N, V))


def unchanged(wants: Patches) -> Patches:
    crops = tuple(dataclasses.replace(crop, photometric=NOTHING) for crop in wants.crops)
    return dataclasses.replace(wants, crops=crops)


def by_hand(folder: Folder, epoch: int, index: int) -> list[Tensor]:
    """PIL's crop of each view, one by one, as torchvision's RandomResizedCrop would make it."""
    image = folder.read(index)
    size_12, found = np.array([image.size]), []
    for view, crop in enumerate(WANTS.crops):
        own = dataclasses.replace(PIXELS, crop_scale=crop.scale, flip=crop.flip)
        drawn = training_crops(SEED, epoch, np.array([index]), size_12, own, view)
        found.append(training_pixels(image, own, drawn.box_N4[0], bool(drawn.flip_N[0])))
    return found


def test_each_view_of_a_folder_is_its_own_crop_of_the_file_then_changed(folder: Folder) -> None:
    for step, plain, batch in zip(STEPS, take(folder, unchanged(WANTS)), take(folder), strict=True):
        epoch, position = divmod(step, 6)
        index_N = epoch_order(SEED, epoch, 80)[position * BATCH : (position + 1) * BATCH]
        expected = torch.stack([torch.stack(by_hand(folder, epoch, int(i))) for i in index_N])
        assert torch.equal(images(plain), expected.float())
        changes = draw_changes(SEED, epoch, index_N, [FIRST.photometric, SECOND.photometric])
        assert torch.equal(
            images(batch), changed(expected.flatten(0, 1), changes).view(12, 2, 3, 24, 24)
        )
        assert not torch.equal(images(plain)[:, 0], images(plain)[:, 1])


def test_a_store_gives_the_folders_crops_but_for_rounding(folder: Folder, store: Store) -> None:
    for packed, decoded in zip(
        take(store, unchanged(WANTS)), take(folder, unchanged(WANTS)), strict=True
    ):
        # PIL rounds, and clips, after each axis.
        difference = (images(packed) - images(decoded)).abs()
        assert difference.mean() < 0.5
        assert difference.max() < 25
    for packed, decoded in zip(take(store), take(folder), strict=True):
        # The same changes: a value near 128 may be inverted on one side alone.
        assert (images(packed) - images(decoded)).abs().median() < 1


def test_the_first_view_has_the_crop_of_objectives_with_one(store: Store) -> None:
    one = whole_crops(ARCH, (dataclasses.replace(FIRST, photometric=NOTHING),))
    whole = disjoint_views(ARCH, num_views=1, mask_ratio=0)
    pixels = dataclasses.replace(PIXELS, crop_scale=FIRST.scale, flip=FIRST.flip)
    (theirs,) = whole.batches(store, pixels, batch_size=BATCH, seed=SEED, steps=range(1))
    (ours,) = take(store, one, range(1))
    places = theirs.keep_NVK[:, 0].unsqueeze(-1)
    found = ours.patches().take_along_dim(places, dim=1)
    assert (found - theirs.patches()).abs().max() < 2e-3


@pytest.mark.parametrize("processes", [2, 4])
def test_parts_of_processes_make_up_the_whole(folder: Folder, store: Store, processes: int) -> None:
    for source in (folder, store):
        whole = take(source)
        parts = [take(source, part=(rank, processes)) for rank in range(processes)]
        for number, batch in enumerate(whole):
            together = torch.cat([part[number].patches() for part in parts])
            torch.testing.assert_close(together, batch.patches(), rtol=0, atol=5e-3)
            keep = torch.cat([part[number].keep_NVK for part in parts])
            assert torch.equal(keep, batch.keep_NVK)


def test_workers_change_nothing_and_a_run_goes_on_with_the_same_batches(
    folder: Folder, store: Store
) -> None:
    whole = take(folder)
    for one, other in zip(take(folder, num_workers=2), whole, strict=True):
        assert torch.equal(one.patches(), other.patches())
    for source in (folder, store):
        (last,) = take(source, steps=range(7, 8))
        assert torch.equal(last.patches(), take(source)[-1].patches())


def test_they_pass_to_the_device_whole(store: Store) -> None:
    def batches() -> Iterator[Visible]:
        yield from take(store)

    for moved, batch in zip(
        device_batches(batches(), torch.device("cpu")), take(store), strict=True
    ):
        assert isinstance(moved.pixels, CutCrops)
        assert torch.equal(moved.patches(), batch.patches())
        # Pinning refuses tensors that repeat their memory.
        assert all(tensor.is_contiguous() for tensor in tensors_of(batch))


def test_a_subset_of_patches_of_each_crop_can_be_wanted(store: Store) -> None:
    keep_VK = torch.tensor([[0, 7, 35], [1, 2, 3]])
    some = dataclasses.replace(
        WANTS, per_view=3, draw=lambda seed, epoch, index_N: keep_VK.repeat(len(index_N), 1, 1)
    )
    assert str(some) == "2 crops of 24 px, 3 of 36 patches of each"
    for few, whole in zip(take(store, some), take(store), strict=True):
        all_NVLP = whole.patches().unflatten(1, (2, 36))
        expected = torch.stack([all_NVLP[:, view, keep] for view, keep in enumerate(keep_VK)], 1)
        assert torch.equal(few.patches(), expected.flatten(1, 2))


def test_images_in_memory_are_cropped_as_stored_pictures_are(store: Store) -> None:
    index_N = epoch_order(SEED, 0, 80)[:BATCH]
    (batch,) = take(store, steps=range(1))
    pictures_NCHW = store.images(index_N)
    seen = WANTS.of_images(pictures_NCHW, index_N, seed=SEED)
    assert torch.equal(seen.keep_NVK, batch.keep_NVK)
    torch.testing.assert_close(seen.visible_NMP, batch.patches(), rtol=0, atol=2e-3)
    assert seen.visible_NMP.shape == (BATCH, 72, 48)
    assert torch.equal(
        patchify(pictures_NCHW, 4).float().mean(), patchify(store.images(index_N), 4).float().mean()
    )


SMALL = Crop(scale=(0.05, 0.4), flip=True, photometric=STRONG)
LOCAL = whole_crops(dataclasses.replace(ARCH, img_size=12), (SMALL, SMALL, SMALL))
BOTH = dataclasses.replace(WANTS, local=LOCAL)


def assert_equal(found: Seen, expected: Seen) -> None:
    assert torch.equal(found.visible_NMP, expected.visible_NMP)
    assert torch.equal(found.keep_NVK, expected.keep_NVK)
    assert (found.local is None) == (expected.local is None)
    if found.local and expected.local:
        assert_equal(found.local, expected.local)


def test_a_second_group_has_crops_of_another_size_with_draws_of_its_own(
    folder: Folder, store: Store
) -> None:
    assert str(BOTH) == "2 crops of 24 px, 3 crops of 12 px"
    size_12 = np.array([folder.read(0).size])
    for source in (folder, store):
        for alone, batch in zip(take(source), take(source, BOTH), strict=True):
            seen = batch.seen()
            # The first group is what it is alone.
            assert_equal(dataclasses.replace(seen, local=None), alone.seen())
            assert seen.local
            assert seen.local.visible_NMP.shape == (BATCH, 3 * 9, 48)
            assert seen.local.keep_NVK.tolist() == [[list(range(9))] * 3] * BATCH
    # By PIL and by hand, for views 2 to 4 of one image.
    (batch,) = take(folder, unchanged(dataclasses.replace(BOTH, local=unchanged(LOCAL))), range(1))
    index = epoch_order(SEED, 0, 80)[5:6]
    pixels = dataclasses.replace(PIXELS, img_size=12, crop_scale=SMALL.scale, flip=True)
    local = batch.seen().local
    assert local
    crops = unpatchify(local.visible_NMP[5].view(3, 9, 48), 4)
    for number, crop in enumerate(crops, start=2):
        drawn = training_crops(SEED, 0, index, size_12, pixels, number)
        image, flip = folder.read(int(index[0])), bool(drawn.flip_N[0])
        assert torch.equal(crop, training_pixels(image, pixels, drawn.box_N4[0], flip).float())
    changes = draw_changes(SEED, 0, index, [STRONG] * 5)
    alone = draw_changes(SEED, 0, index, [STRONG] * 3, first=2)
    assert torch.equal(alone.factor_B4, changes.factor_B4[2:])


def test_a_second_group_is_cut_moved_and_made_by_workers_as_the_first(
    folder: Folder, store: Store
) -> None:
    whole = [batch.seen() for batch in take(folder, BOTH)]
    for one, other in zip(take(folder, BOTH, num_workers=2), whole, strict=True):
        assert_equal(one.seen(), other)
    second = [batch.seen() for batch in take(folder, BOTH, part=(1, 2))]
    for one, other in zip(second, whole, strict=True):
        assert_equal(one, other.split(BATCH // 2)[1])
    (batch,) = take(store, BOTH, range(1))
    for moved in device_batches(iter([batch]), torch.device("cpu")):
        assert_equal(moved.seen(), batch.seen())
    index_N = epoch_order(SEED, 0, 80)[:BATCH]
    seen = BOTH.of_images(store.images(index_N), index_N, seed=SEED)
    expected = batch.seen()
    assert seen.local
    assert expected.local
    torch.testing.assert_close(
        seen.local.visible_NMP, expected.local.visible_NMP, rtol=0, atol=2e-3
    )


def test_what_is_wanted_passes_to_processes_that_are_started_anew() -> None:
    for wants in (BOTH, disjoint_views(ARCH, num_views=2, mask_ratio=0.5)):
        passed = pickle.loads(pickle.dumps(wants))
        assert str(passed) == str(wants)
        assert passed.more(0, 0, np.arange(2)) == {}


class TwoSizes(Objective):
    """Compares the brightness of both groups, and learns from the first one's patches."""

    name = "Two sizes"

    class Config(ObjectiveConfig):
        pass

    def wants(self, arch: Arch) -> Patches:
        return BOTH

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        assert seen.local
        means = [one.visible_NMP.mean((1, 2)) for one in (seen, seen.local)]
        projected = seen.local.visible_NMP @ vit.patch_embed.proj.weight.flatten(1).T
        return torch.stack([*means, projected.mean((1, 2))], dim=1)

    def loss(self, rows: Tensor) -> Output:
        return Output(loss=rows.sum())


def test_an_objective_gets_both_groups_normalised_and_their_cost_is_counted(store: Store) -> None:
    objective, vit = TwoSizes(), ARCH.build()
    (batch,) = take(store, BOTH, range(1))
    rows = PretrainingModel(objective, vit)(batch.seen())
    seen = batch.seen()
    assert seen.local
    for column, group in enumerate((seen, seen.local)):
        per_channel = group.visible_NMP.unflatten(-1, (3, 16)).mean((1, 3)) / 255
        mean_C, std_C = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        expected = ((per_channel - mean_C) / std_C).mean(1)
        torch.testing.assert_close(rows[:, column], expected, rtol=1e-4, atol=1e-4)
    # Forward, and backward to the weights: 27 patches of 48 values, 8 wide.
    assert objective.flop_per_image(ARCH) == 2 * 2 * 27 * 48 * 8
    with pytest.raises(InputError, match="images of one size are not enough"):
        Bound(objective, ARCH, vit, nn.Module())(torch.zeros(2, 3, 24, 24))


def test_what_a_source_or_a_recipe_cannot_give_is_one_line(
    folder: Folder, store: Store, tmp_path: Path
) -> None:
    form: dict[str, Any] = {"layout": "patch", "size": 24, "patch_size": 4, "crop_pct": 1.0}
    patches = pack_folder(folder.root, tmp_path / "store", **form).store
    with pytest.raises(InputError, match=r"has one crop of each image; .* --layout image") as no:
        WANTS.require(patches, PIXELS)
    assert "\n" not in str(no.value)
    with pytest.raises(InputError, match="packed in the patch layout"):
        take(patches)
    WANTS.require(store, PIXELS)
    WANTS.require(folder, PIXELS)
    for change in ({"crop_scale": (0.2, 1.0)}, {"flip": True}):
        with pytest.raises(InputError, match=r"pixels\.crop_scale and pixels\.flip"):
            WANTS.require(folder, dataclasses.replace(PIXELS, **change))
    with pytest.raises(InputError, match="the smaller number first"):
        Crop(scale=(0.9, 0.1), flip=True, photometric=NOTHING)
