"""Visible patches of a batch: the same from every kind of source, with any workers and processes."""

import dataclasses
import functools
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.nn.functional import unfold

from micl_bench.data.folder import Folder, open_folder, read_image
from micl_bench.data.packed.pack import pack_folder
from micl_bench.data.packed.store import Store
from micl_bench.data.pixels import Pixels, evaluation_pixels
from micl_bench.data.resample import Windows
from micl_bench.data.source import Source
from micl_bench.data.to_device import each_tensor, tensors_of
from micl_bench.data.visible import Patches, Visible
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import epoch_order
from micl_bench.views import draw_views

SEED, BATCH, PATCH = 7, 12, 4
PIXELS = Pixels(img_size=32, crop_pct=1.0)
DRAW = functools.partial(draw_views, SEED, num_patches=64, num_views=2, mask_ratio=0.5)
# Three epochs of 80 images, 6 batches each: 72 images are seen in each.
STEPS = range(18)


@pytest.fixture(scope="module")
def folder(few_digits: Path) -> Folder:
    return open_folder(few_digits / "train")


@pytest.fixture(scope="module")
def patches(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("patches") / "store"
    form: dict[str, Any] = {"layout": "patch", "size": 32, "patch_size": PATCH, "crop_pct": 1.0}
    return pack_folder(few_digits / "train", out, **form).store


def take(source: Source, steps: range = STEPS, **changes: Any) -> list[Visible]:
    options = {"batch_size": BATCH, "draw_views": DRAW, "pixels": PIXELS, **changes}
    wanted = wanted_patches(options.pop("draw_views"))
    return list(wanted.batches(source, options.pop("pixels"), seed=SEED, steps=steps, **options))


def wanted_patches(draw_views: Callable[[int, NDArray], torch.Tensor]) -> Patches:
    """Of 64 in two views, whatever the numbers that are only for people."""
    return Patches(
        num_views=2,
        per_view=16,
        of=64,
        patch_size=PATCH,
        draw=lambda seed, epoch, index_N: draw_views(epoch, index_N),
    )


def assert_equal(found: list[Visible], expected: list[Visible]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.patches(), other.patches())
        assert torch.equal(one.keep_NVK, other.keep_NVK)


@pytest.fixture(scope="module")
def whole(folder: Folder) -> list[Visible]:
    return take(folder)


def test_a_batch_is_its_images_cut_by_torch_at_the_places_that_were_drawn(
    folder: Folder, whole: list[Visible]
) -> None:
    for step in (0, 5, 6, 17):
        epoch, position = divmod(step, 6)
        index_N = epoch_order(SEED, epoch, 80)[position * BATCH : (position + 1) * BATCH]
        keep_NVK = DRAW(epoch, index_N)
        assert torch.equal(whole[step].keep_NVK, keep_NVK)
        images = [evaluation_pixels(read_image(folder.paths[i]), PIXELS) for i in index_N]
        all_NLP = unfold(torch.stack(images).float(), PATCH, stride=PATCH).transpose(1, 2)
        expected = [
            all_LP[keep_VK.flatten()] for all_LP, keep_VK in zip(all_NLP, keep_NVK, strict=True)
        ]
        assert whole[step].patches().dtype == torch.uint8
        assert torch.equal(whole[step].patches().float(), torch.stack(expected))


def test_an_epoch_takes_no_image_twice_and_drops_only_the_incomplete_batch(folder: Folder) -> None:
    seen: list[tuple[int, NDArray[np.int64]]] = []

    def draw(epoch: int, index_N: NDArray[np.int64]) -> torch.Tensor:
        seen.append((epoch, index_N))
        return DRAW(epoch, index_N)

    take(folder, draw_views=draw)
    for epoch in range(3):
        index = np.concatenate([index_N for its_epoch, index_N in seen if its_epoch == epoch])
        assert len(index) == len(set(index.tolist())) == 72
        assert set(index.tolist()) <= set(range(80))
    # A batch that divides the images leaves none out.
    seen.clear()
    take(folder, steps=range(4), batch_size=20, draw_views=draw)
    assert sorted(np.concatenate([index_N for _, index_N in seen])) == list(range(80))


def test_worker_processes_change_nothing(folder: Folder, whole: list[Visible]) -> None:
    assert_equal(take(folder, num_workers=2), whole)


def test_a_patch_store_gives_what_its_folder_gives(patches: Store, whole: list[Visible]) -> None:
    assert_equal(take(patches), whole)


def test_a_run_goes_on_with_the_batches_of_an_uncut_one(
    folder: Folder, patches: Store, whole: list[Visible]
) -> None:
    for source in (folder, patches):
        assert_equal(take(source, steps=range(8, 14)), whole[8:14])


@pytest.mark.parametrize("processes", [2, 3, 12])
def test_parts_of_processes_make_up_the_whole(
    folder: Folder, patches: Store, whole: list[Visible], processes: int
) -> None:
    steps = range(4, 8)
    for source in (folder, patches):
        parts = [take(source, steps=steps, part=(rank, processes)) for rank in range(processes)]
        together = [
            Visible(
                torch.cat([part.patches() for part in step]),
                torch.cat([part.keep_NVK for part in step]),
            )
            for step in zip(*parts, strict=True)
        ]
        assert_equal(together, whole[4:8])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_crops_and_flips_do_not_depend_on_workers_or_processes(
    folder: Folder, num_workers: int
) -> None:
    random = dataclasses.replace(PIXELS, crop_scale=(0.2, 1.0), flip=True)
    wanted = take(folder, steps=range(5, 8), pixels=random)
    plain = take(folder, steps=range(5, 8))
    assert not torch.equal(wanted[0].patches(), plain[0].patches())
    assert torch.equal(wanted[0].keep_NVK, plain[0].keep_NVK)
    parts = [
        take(folder, range(5, 8), pixels=random, part=(rank, 2), num_workers=num_workers)
        for rank in range(2)
    ]
    together = [
        Visible(
            torch.cat([a.patches(), b.patches()]),
            torch.cat([a.keep_NVK, b.keep_NVK]),
        )
        for a, b in zip(*parts, strict=True)
    ]
    assert_equal(together, wanted)


def test_an_image_store_gives_windows_of_the_same_places(
    folder: Folder, whole: list[Visible], tmp_path: Path
) -> None:
    store = pack_folder(folder.root, tmp_path / "store", layout="image", size=32).store
    found = take(store)
    for one, other in zip(found, whole, strict=True):
        assert isinstance(one.pixels, Windows)
        assert torch.equal(one.keep_NVK, other.keep_NVK)
        # Pictures of the input's own size, uncropped: resampling changes no grey level.
        assert torch.equal(one.patches().round(), other.patches().float())


def test_a_copy_holds_what_the_batch_holds(folder: Folder, tmp_path: Path) -> None:
    store = pack_folder(folder.root, tmp_path / "store", layout="image", size=32).store
    for source, tensors in ((folder, 2), (store, 4)):
        (batch,) = take(source, steps=range(1))
        copy = each_tensor(batch, torch.clone)
        assert torch.equal(copy.patches(), batch.patches())
        assert len(list(tensors_of(batch))) == tensors
        assert all(map(torch.equal, tensors_of(copy), tensors_of(batch)))
        nothing = each_tensor(batch, lambda tensor: tensor[:0])
        assert not any(map(len, tensors_of(nothing)))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("name", ["cut short.jpg", "two\nlines.jpg"])
def test_an_unreadable_image_is_named(tmp_path: Path, num_workers: int, name: str) -> None:
    root = tmp_path / "images" / "a class"
    root.mkdir(parents=True)
    for i in range(4):
        Image.new("RGB", (40, 40)).save(root / f"{i}.jpg")
    (root / name).write_bytes((root / "0.jpg").read_bytes()[:300])
    others = set(multiprocessing.active_children())
    with pytest.raises(InputError) as caught:
        take(open_folder(root.parent), range(1), batch_size=5, num_workers=num_workers)
    # Its workers are gone already, whoever keeps the exception.
    assert set(multiprocessing.active_children()) <= others
    assert str(caught.value).startswith(f"{root / name} is no readable image (")
    assert "Traceback" not in str(caught.value)
    assert str(caught.value).endswith("); replace or remove it")


def test_too_few_images_and_a_batch_that_does_not_divide_are_refused(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"batch size 81 is more than .* has, 80 images"):
        take(folder, batch_size=81)
    with pytest.raises(InputError, match="batch size 12 cannot be split over 5 processes"):
        take(folder, part=(0, 5))


def test_large_photographs_give_the_patches_of_their_store(tmp_path: Path) -> None:
    # Both decode them at a reduced scale; 2000 x 1500 is far above twice 32 / 0.875.
    photograph = Image.fromarray(load_sample_images().images[0]).resize((2000, 1500))
    path = tmp_path / "images" / "china" / "large.jpg"
    path.parent.mkdir(parents=True)
    photograph.save(path, quality=90)
    store = pack_folder(
        tmp_path / "images", tmp_path / "store", layout="patch", size=32, patch_size=4
    ).store
    wanted = wanted_patches(lambda epoch, index_N: torch.arange(8).reshape(1, 2, 4))
    folder, packed = (
        next(wanted.batches(source, Pixels(img_size=32), batch_size=1, seed=0, steps=range(1)))
        for source in (open_folder(tmp_path / "images"), store)
    )
    assert torch.equal(folder.patches(), packed.patches())
