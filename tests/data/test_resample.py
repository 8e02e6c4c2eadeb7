"""Resampling of visible patches against torchvision, PIL and a direct sum over pixels."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from micl_bench.data.crops import Crops, draw_crops
from micl_bench.data.packed.store import Store
from micl_bench.data.pixels import Pixels, training_crops, training_pixels
from micl_bench.data.resample import (
    Windows,
    cut_windows,
    resample_windows,
    resampled_images,
    stored_boxes,
)
from micl_bench.data.to_device import each_tensor
from micl_bench.patches import patchify
from micl_bench.runtime.errors import InputError

# Places of pixels are rounded to single precision: to 2e-6 of a pixel in windows of up to 32, and
# neighbours in noise differ by up to 255. Measured: 5e-4 of a grey level, ten times less than
# torchvision's own single precision is off.
NOISE_TOLERANCE = 2e-3

# Stored side, output side, patch, areas: shrinking a little, stretching, a ViT-H, shrinking much.
SETTINGS = [
    (256, 224, 16, (0.2, 1.0)),
    (256, 224, 14, (0.2, 1.0)),
    (64, 96, 16, (0.05, 0.3)),
    (100, 32, 8, (0.2, 1.0)),
    (40, 48, 16, (1.0, 1.0)),
]


def noise(rows: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, side, side, 3), dtype=np.uint8)


def photographs(side: int) -> NDArray[np.uint8]:
    """Smooth shapes with sharp edges, squashed to squares."""
    pictures = []
    for seed in range(6):
        small = Image.fromarray(noise(1, 12, seed)[0])
        pictures.append(np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).copy())
        pictures[-1][side // 3 : side // 2, side // 4 :] = 255 * (seed % 2)
    return np.stack(pictures)


def without_extremes(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """In 40 to 215, where no overshoot, an eighth at most, reaches 0 or 255."""
    return (40 + pictures * (175 / 255)).astype(np.uint8)


def some_patches(number: int, patches: int, kept: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randperm(patches, generator=generator)[:kept] for _ in range(number)])


def chosen(images_NCHW: Tensor, keep_NM: Tensor, patch_size: int) -> Tensor:
    patches_NLP = patchify(images_NCHW, patch_size)
    return patches_NLP.take_along_dim(keep_NM.unsqueeze(-1), dim=1)


def windows_of(
    pixels: NDArray[np.uint8],
    rows_N: NDArray[np.integer],
    box_N4: NDArray,
    flip_N: NDArray[np.bool_],
    keep_NM: Tensor,
    **sides: int,
) -> Windows:
    """Windows of rows that were never squashed, so that boxes are in stored pixels."""
    store: Any = SimpleNamespace(
        pixels=pixels,
        rows_N=np.arange(len(pixels)),
        sizes_N2=np.full((len(pixels), 2), pixels.shape[1]),
    )
    return cut_windows(store, rows_N, Crops(box_N4=box_N4, flip_N=flip_N), keep_NM, **sides)


def random_case(
    side: int, img_size: int, patch_size: int, scale: tuple[float, float], *, N: int = 8
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], Tensor]:
    """Rows, boxes in stored pixels, flips and places of ten patches for each of N images."""
    rows_N = np.random.default_rng(1).permutation(N + 2)[:N]
    crops = draw_crops(0, 0, rows_N, np.full((N, 2), side), scale=scale, flip=True)
    keep_NM = some_patches(N, (img_size // patch_size) ** 2, 9)
    assert len({*crops.flip_N.tolist()}) == 2
    return rows_N, cast(NDArray[np.int64], crops.box_N4), crops.flip_N, keep_NM


@pytest.mark.parametrize(("side", "img_size", "patch_size", "scale"), SETTINGS)
def test_visible_patches_are_those_of_torchvisions_resized_crop(
    side: int, img_size: int, patch_size: int, scale: tuple[float, float]
) -> None:
    rows_N, box_N4, flip_N, keep_NM = random_case(side, img_size, patch_size, scale)
    pixels = noise(len(rows_N) + 2, side)
    windows = windows_of(
        pixels, rows_N, box_N4, flip_N, keep_NM, img_size=img_size, patch_size=patch_size
    )
    whole = []
    for row, (left, top, right, bottom), flip in zip(rows_N, box_N4.tolist(), flip_N, strict=True):
        image = F.resized_crop(
            torch.from_numpy(pixels[row]).permute(2, 0, 1).double(),
            *(top, left, bottom - top, right - left),
            size=[img_size, img_size],
            interpolation=InterpolationMode.BICUBIC,
            antialias=True,
        )
        whole.append(image.flip(-1) if flip else image)
    expected_NMP = chosen(torch.stack(whole), keep_NM, patch_size).clamp(0, 255)
    found_NMP = resample_windows(windows)
    assert found_NMP.dtype == torch.float32
    assert (found_NMP - expected_NMP).abs().max() < NOISE_TOLERANCE


@pytest.mark.parametrize("img_size", [224, 96])
def test_a_store_gives_what_pil_gives_but_for_its_rounding(img_size: int) -> None:
    side, patch_size = 256, 16
    # PIL also clips between the axes, which is another picture where a sharp edge overshoots.
    pictures = without_extremes(photographs(side))
    N = len(pictures)
    pixels = Pixels(img_size=img_size, crop_scale=(0.2, 1.0), flip=True)
    sizes_N2 = np.full((N, 2), side)
    crops = training_crops(0, 0, np.arange(N), sizes_N2, pixels)
    keep_NM = some_patches(N, (img_size // patch_size) ** 2, 18)
    whole = [
        training_pixels(Image.fromarray(picture), pixels, box, bool(flip))
        for picture, box, flip in zip(pictures, crops.box_N4, crops.flip_N, strict=True)
    ]
    store = a_store(pictures, sizes_N2)
    windows = cut_windows(
        store, np.arange(N), crops, keep_NM, img_size=img_size, patch_size=patch_size
    )
    found_NMP = resample_windows(windows)
    difference_NMP = (found_NMP - chosen(torch.stack(whole), keep_NM, patch_size)).abs()
    # PIL rounds to whole levels twice: after the first axis, half a level times 1.25, the largest
    # sum of a pixel's weights without their signs, and after the second, another half.
    assert difference_NMP.max() < 0.5 * 1.25 + 0.5 + NOISE_TOLERANCE


def keys_kernel(distance: float) -> float:
    """Keys's cubic convolution with a = -0.5, as published."""
    d = abs(distance)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def direct_weights(low: float, high: float, side: int, img_size: int) -> NDArray[np.float64]:
    """(img_size, side): a pixel's weight is the kernel's times the share of it in the box."""
    step = (high - low) / img_size
    stretch = max(step, 1.0)
    weights = np.zeros((img_size, side))
    for out in range(img_size):
        centre = low + (out + 0.5) * step
        for pixel in range(side):
            inside = max(0.0, min(pixel + 1, high) - max(pixel, low))
            weights[out, pixel] = inside * keys_kernel((pixel + 0.5 - centre) / stretch)
        weights[out] /= weights[out].sum()
    return weights


@pytest.mark.parametrize("side", [32, 60])
def test_boxes_with_edges_inside_pixels_match_a_direct_sum(side: int) -> None:
    img_size, patch_size = 32, 8
    sizes_N2 = np.array([[50, 37], [500, 375], [333, 500], [19, 21], [4000, 3000]])
    N = len(sizes_N2)
    crops = draw_crops(0, 0, np.arange(N), sizes_N2, scale=(0.2, 1.0), flip=True)
    # A box thinner than a stored pixel, too: it must not come out empty.
    box_N4 = np.array(crops.box_N4)
    box_N4[-1] = [1010, 700, 1030, 720]
    box_N4 = stored_boxes(box_N4, sizes_N2, side)
    pixels = noise(N, side)
    keep_NM = torch.arange((img_size // patch_size) ** 2).expand(N, -1)
    windows = windows_of(
        pixels,
        np.arange(N),
        box_N4,
        crops.flip_N,
        keep_NM,
        img_size=img_size,
        patch_size=patch_size,
    )
    found_NLP = resample_windows(windows)
    for n, (left, top, right, bottom) in enumerate(box_N4.tolist()):
        rows = direct_weights(top, bottom, side, img_size)
        columns = direct_weights(left, right, side, img_size)
        image = np.einsum("iy,yxc,jx->cij", rows, pixels[n].astype(float), columns).clip(0, 255)
        image = image[:, :, ::-1].copy() if crops.flip_N[n] else image
        expected_LP = patchify(torch.from_numpy(image)[None], patch_size)[0]
        assert (found_NLP[n] - expected_LP).abs().max() < NOISE_TOLERANCE


def test_only_pixels_near_visible_patches_and_in_the_crop_matter() -> None:
    side, img_size, patch_size = 128, 96, 16
    box_N4, flip_N = np.array([[10, 20, 106, 116]]), np.array([False])
    # The patch in the second row and third column shows this part at the scale of 1.
    keep_NM, (left, top) = torch.tensor([[8]]), (10 + 32, 20 + 16)
    pixels = noise(1, side)
    masked = 255 - pixels
    near = np.s_[0, top - 2 : top + 18, left - 2 : left + 18]
    masked[near] = pixels[near]

    def patch(of: NDArray[np.uint8], box_N4: NDArray, keep_NM: Tensor) -> Tensor:
        windows = windows_of(
            of, np.array([0]), box_N4, flip_N, keep_NM, img_size=img_size, patch_size=patch_size
        )
        return resample_windows(windows)

    assert torch.equal(patch(pixels, box_N4, keep_NM), patch(masked, box_N4, keep_NM))
    # At the edge of the crop nothing bleeds in from outside.
    corner_NM, outside = torch.tensor([[0]]), 255 - pixels
    outside[0, 20:116, 10:106] = pixels[0, 20:116, 10:106]
    box_N4 = np.array([[10, 20, 106, 116]]) * 1.0
    assert torch.equal(patch(pixels, box_N4, corner_NM), patch(outside, box_N4, corner_NM))


def test_an_image_comes_out_the_same_in_any_batch() -> None:
    side, img_size, patch_size = 96, 64, 16
    rows_N, box_N4, flip_N, keep_NM = random_case(side, img_size, patch_size, (0.05, 1.0), N=50)
    pixels = noise(52, side)

    def patches(some: slice) -> Tensor:
        windows = windows_of(
            pixels,
            rows_N[some],
            box_N4[some],
            flip_N[some],
            keep_NM[some],
            img_size=img_size,
            patch_size=patch_size,
        )
        return resample_windows(windows)

    together, alone = patches(slice(None)), [patches(slice(n, n + 1)) for n in range(50)]
    # Windows differ in size with the batch, and so does the order of the sums.
    assert (together - torch.cat(alone)).abs().max() < NOISE_TOLERANCE


def a_store(pixels: NDArray[np.uint8], sizes_N2: NDArray[np.integer]) -> Store:
    """What resampling reads of a store, its rows in another order than its images."""
    N = len(pixels)
    rows_N = np.arange(N)[::-1]
    attributes: Any = SimpleNamespace(
        pixels=pixels[rows_N].copy(), rows_N=rows_N, sizes_N2=sizes_N2, size=pixels.shape[1]
    )
    return attributes


@pytest.mark.parametrize("img_size", [224, 36, 23])
def test_whole_images_are_the_centre_crops_of_the_pictures(img_size: int) -> None:
    side, crop_pct = 128, 0.875
    pictures = photographs(side)
    sizes_N2 = np.tile([side, side], (len(pictures), 1))
    index_N = np.array([4, 1])
    found_NCHW = resampled_images(
        a_store(pictures, sizes_N2), index_N, img_size=img_size, crop_pct=crop_pct
    )
    edge = (side - crop_pct * side) / 2
    assert edge == int(edge)
    whole = F.resized_crop(
        torch.from_numpy(pictures[index_N]).permute(0, 3, 1, 2).double(),
        *(int(edge), int(edge), side - 2 * int(edge), side - 2 * int(edge)),
        size=[img_size, img_size],
        interpolation=InterpolationMode.BICUBIC,
        antialias=True,
    )
    assert found_NCHW.dtype == torch.uint8
    difference = (found_NCHW - whole.clamp(0, 255)).abs()
    assert difference.max() < 0.5 + NOISE_TOLERANCE


def test_a_squashed_picture_is_cropped_square_in_the_original() -> None:
    # A picture of 200 x 100 squashed to 64 x 64: a disc must come out round.
    y, x = np.mgrid[:100, :200]
    disc = np.where((x - 99.5) ** 2 + (y - 49.5) ** 2 < 30**2, 255, 0).astype(np.uint8)
    squashed = Image.fromarray(np.stack([disc] * 3, axis=-1)).resize((64, 64))
    store = a_store(np.asarray(squashed)[None], np.array([[200, 100]]))
    image_CHW = resampled_images(store, np.array([0]), img_size=64, crop_pct=1.0)[0]
    lit = image_CHW[0] > 127
    width, height = lit.any(dim=0).sum(), lit.any(dim=1).sum()
    # Two 30 pixels of radius in a crop of 100, at 64 pixels; edges of stored pixels are 2 wide.
    assert abs(width - 38.4) <= 2
    assert abs(height - 38.4) <= 2


def a_batch() -> Windows:
    side, img_size, patch_size = 64, 64, 16
    rows_N, box_N4, flip_N, keep_NM = random_case(side, img_size, patch_size, (0.2, 1.0))
    return windows_of(
        noise(10, side), rows_N, box_N4, flip_N, keep_NM, img_size=img_size, patch_size=patch_size
    )


def test_resampling_asks_no_device_for_a_value() -> None:
    # Fake tensors hold no values: .item() or indexing by a mask would raise.
    windows = a_batch()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = each_tensor(windows, lambda tensor: mode.from_tensor(tensor).to("cuda"))
        visible_NMP = resample_windows(fake)
    assert visible_NMP.shape == (8, 9, 768)
    assert visible_NMP.device.type == "cuda"


def test_half_precision_around_it_changes_nothing() -> None:
    windows = a_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resample_windows(windows)
    assert torch.equal(inside, resample_windows(windows))


def test_an_image_that_patches_do_not_tile_is_refused() -> None:
    with pytest.raises(InputError, match="img_size 60 is not a multiple of patch_size 16"):
        windows_of(
            noise(1, 64),
            np.array([0]),
            np.array([[0, 0, 64, 64]]),
            np.array([False]),
            torch.tensor([[0]]),
            img_size=60,
            patch_size=16,
        )
