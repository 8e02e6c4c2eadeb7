"""RandomResizedCrop and flip from uncompressed images, for visible patches only.

The host copies, for each visible patch, the square of stored bytes that its resampling reads; the
device resamples: antialiased bicubic (Keys, a = -0.5; widened where it shrinks, weights normalised, as
in PIL and torchvision) of the crop alone. Box edges may lie inside a stored pixel, because pictures
are stored squashed to a square: such a pixel counts by the share of it that is in the box.

Shapes: N images, R rows of the store, M visible patches per image, B = N * M, T stored pixels along a
window, p output pixels along a patch, G patches along an image, P = 3 * p * p; A = 2 axes (x, y),
Q = N * A * G, F stored pixels that an output pixel reads along an axis.
"""

import dataclasses
import operator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.data.crops import Boxes, Crops, Sizes, centre_boxes
from micl_bench.data.packed.store import Store
from micl_bench.data.to_device import each_tensor
from micl_bench.patches import unpatchify
from micl_bench.runtime.errors import InputError

_RADIUS = 2
# Few distinct window sizes, so that memory is reused and rows of a window stay aligned.
_WINDOW_STEP = 8
# Windows at a time on a CPU: few enough for the results in between to stay in its caches.
_CPU_WINDOWS = 288
# Sides of the tiles that whole images are made of: small, since products of large ones are mostly zeros.
_TILES = range(8, 25)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windows:
    """Stored pixels around each visible patch, and the geometry of their resampling.

    `axes_NAG4` holds, for each place along an axis and in pixels from its window's start: the centre
    of the first output pixel, the step to the next (negative if mirrored), both edges of the box.
    """

    pixels_NMTT3: Tensor
    axes_NAG4: Tensor
    keep_NM: Tensor
    patch_size: int
    taps: int
    """F: stored pixels that an output pixel reads along an axis."""


def cut_windows(
    store: Store,
    index_N: NDArray[np.integer],
    crops: Crops,
    keep_NM: Tensor,
    *,
    img_size: int,
    patch_size: int,
) -> Windows:
    """Copy the windows of the visible patches of images of a store in image layout.

    Args:
        crops: in original pixels.
        keep_NM: places of the visible patches in the resampled, mirrored image, row-major.

    Raises:
        InputError: patches do not tile the image.
    """
    box_N4 = stored_boxes(crops.box_N4, store.sizes_N2[index_N], store.pixels.shape[1])
    return windows_at(
        store.pixels,
        store.rows_N[index_N],
        dataclasses.replace(crops, box_N4=box_N4),
        keep_NM,
        img_size=img_size,
        patch_size=patch_size,
    )


def windows_at(
    pixels_RSS3: NDArray[np.uint8],
    row_N: NDArray[np.integer],
    crops: Crops,
    keep_NM: Tensor,
    *,
    img_size: int,
    patch_size: int,
) -> Windows:
    """`cut_windows` of rows of square pictures, which are in one piece of memory; `crops` are in their
    pixels."""
    if img_size % patch_size:
        raise InputError(f"img_size {img_size} is not a multiple of patch_size {patch_size}")
    N, M = keep_NM.shape
    R, S = pixels_RSS3.shape[:2]
    G, box_N4 = img_size // patch_size, crops.box_N4
    step_NA = (box_N4[:, 2:] - box_N4[:, :2]) / img_size
    stretch = max(1.0, float(step_NA.max()))
    reach = (patch_size - 1) * float(step_NA.max()) + 2 * _RADIUS * stretch
    T = min(S, -(-int(np.ceil(reach)) // _WINDOW_STEP) * _WINDOW_STEP)
    axes_NAG4, start_NAG = _geometry(box_N4, crops.flip_N, step_NA, patch_size, G, S - T)

    row_NM, column_NM = np.divmod(keep_NM.numpy(), G)
    each_N1 = np.arange(N)[:, None]
    top_NM, left_NM = start_NAG[each_N1, 1, row_NM], start_NAG[each_N1, 0, column_NM]
    # One item of this view is T pixels side by side, from any pixel on: copied in one piece.
    pixel_NM = (row_N[:, None] * S + top_NM) * S + left_NM
    view_shape = (R * S * S - (T - 1) * (S + 1), T)
    view: NDArray[np.void] = np.ndarray(
        view_shape, f"V{3 * T}", pixels_RSS3.reshape(-1), strides=(3, 3 * S)
    )
    pixels_NMTT3 = view[pixel_NM].view(np.uint8).reshape(N, M, T, T, 3)
    return Windows(
        pixels_NMTT3=torch.from_numpy(pixels_NMTT3),
        axes_NAG4=torch.from_numpy(axes_NAG4),
        keep_NM=keep_NM,
        patch_size=patch_size,
        taps=min(T, int(np.ceil(2 * _RADIUS * stretch))),
    )


def resample_windows(windows: Windows) -> Tensor:
    """Return visible_NMP, fp32 in 0 to 255, not rounded, on the windows' device."""
    (N, M), p = windows.keep_NM.shape, windows.patch_size
    device = windows.keep_NM.device
    visible_NMP = torch.empty(N, M, 3 * p * p, device=device)
    images = max(1, _CPU_WINDOWS // M) if device.type == "cpu" else N
    # A training step's half precision would cost a grey level; TF32, if on, costs a fifth of one.
    with torch.autocast(device.type, enabled=False):
        for first in range(0, N, images):
            some = slice(first, first + images)
            part = each_tensor(windows, operator.itemgetter(some))
            _resample(part, visible_NMP[some].view(-1, 3 * p, p))
    return visible_NMP


def stored_boxes(box_N4: Boxes, sizes_N2: Sizes, size: int) -> NDArray[np.float64]:
    """Return boxes in original pixels as boxes in pictures that were squashed to (size, size)."""
    return box_N4 * (size / np.tile(sizes_N2, 2))


def resampled_images(
    store: Store, index_N: NDArray[np.integer], *, img_size: int, crop_pct: float
) -> Tensor:
    """Return evaluation's whole centre crops from a store in image layout: uint8 (N, 3, H, W)."""
    tile = max((side for side in _TILES if img_size % side == 0), default=img_size)
    crops = Crops(
        box_N4=centre_boxes(store.sizes_N2[index_N], crop_pct),
        flip_N=np.zeros(len(index_N), dtype=bool),
    )
    keep_NM = torch.arange((img_size // tile) ** 2).expand(len(index_N), -1)
    windows = cut_windows(store, index_N, crops, keep_NM, img_size=img_size, patch_size=tile)
    return unpatchify(resample_windows(windows).round_().to(torch.uint8), tile)


def _geometry(
    box_N4: Boxes,
    flip_N: NDArray[np.bool_],
    step_NA: NDArray[np.float64],
    p: int,
    G: int,
    last_start: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return `axes_NAG4` and the windows' starts, each along its axis."""
    low_NA1, high_NA1 = box_N4[:, :2, None], box_N4[:, 2:, None]
    mirror_NA1 = (flip_N[:, None] & np.array([True, False]))[:, :, None]
    step_NA1 = np.where(mirror_NA1, -step_NA[:, :, None], step_NA[:, :, None])
    origin_NA1 = np.where(mirror_NA1, high_NA1, low_NA1)
    first_NAG = origin_NA1 + step_NA1 * (np.arange(G) * p + 0.5)
    lowest_NAG = np.minimum(first_NAG, first_NAG + step_NA1 * (p - 1))
    begin_NAG = lowest_NAG - _RADIUS * np.maximum(np.abs(step_NA1), 1)
    start_NAG = np.clip(np.ceil(begin_NAG - 0.5), 0, last_start)
    axes_NAG4 = np.stack(
        [
            first_NAG - start_NAG,
            np.broadcast_to(step_NA1, first_NAG.shape),
            low_NA1 - start_NAG,
            high_NA1 - start_NAG,
        ],
        axis=-1,
    )
    return axes_NAG4.astype(np.float32), start_NAG.astype(np.int64)


def _resample(windows: Windows, out_BXp: Tensor) -> None:
    """Resample by two matrix products per patch, down the columns and along the rows; X = 3 * p."""
    N, M, T = windows.pixels_NMTT3.shape[:3]
    p, G = windows.patch_size, windows.axes_NAG4.shape[2]
    weights_QTp = _weights(windows.axes_NAG4.reshape(-1, 4), T, windows.taps, p)
    first_N1 = torch.arange(0, N * 2 * G, 2 * G, device=out_BXp.device).unsqueeze(1)
    column_NM = first_N1 + windows.keep_NM % G
    row_NM = first_N1 + G + windows.keep_NM.div(G, rounding_mode="floor")
    pixels_BTY = windows.pixels_NMTT3.reshape(N * M, T, T * 3).float()
    # Each product comes out transposed, which brings (row, column, channel) into the projection's
    # order (channel, row, column) without a copy.
    half_BYp = torch.bmm(pixels_BTY.mT, weights_QTp.index_select(0, row_NM.flatten()))
    half_BTX = half_BYp.view(N * M, T, 3 * p)
    columns_BTp = weights_QTp.index_select(0, column_NM.flatten())
    torch.bmm(half_BTX.mT, columns_BTp, out=out_BXp).clamp_(0, 255)


def _weights(axes_Q4: Tensor, T: int, F: int, p: int) -> Tensor:
    """Return weights_QTp of a window's pixels in each output pixel, along one axis."""
    device = axes_Q4.device
    first_Q1, step_Q1, low_Q1, high_Q1 = axes_Q4.unsqueeze(-1).unbind(1)
    stretch_Q1 = step_Q1.abs().clamp_(min=1)
    centre_Qp = first_Q1 + step_Q1 * torch.arange(p, device=device)
    tap_Qp = (centre_Qp - _RADIUS * stretch_Q1 - 0.5).ceil_().clamp_(0, T - F)
    tap_QFp = tap_Qp.unsqueeze(1) + torch.arange(F, device=device).unsqueeze(1)
    distance_QFp = (tap_QFp - (centre_Qp - 0.5).unsqueeze(1)).div_(stretch_Q1.unsqueeze(1)).abs_()
    weight_QFp = _keys(distance_QFp)
    inside_QFp = torch.minimum(tap_QFp + 1, high_Q1.unsqueeze(1))
    inside_QFp -= torch.maximum(tap_QFp, low_Q1.unsqueeze(1))
    weight_QFp *= inside_QFp.clamp_(min=0)
    weight_QFp /= weight_QFp.sum(1, keepdim=True)
    weights_QTp = torch.zeros(len(axes_Q4), T, p, device=device)
    return weights_QTp.scatter_(1, tap_QFp.long(), weight_QFp)


def _keys(distance: Tensor) -> Tensor:
    """Return Keys's cubic kernel, a = -0.5, of distances >= 0: u^2 (u - 1) / 2 + v^2 (1 - 2 v).

    u = max(2 - d, 0) and v = max(1 - d, 0); the second term lives below distance 1.
    """
    u = (2 - distance).clamp_(min=0)
    v = (u - 1).clamp_(min=0)
    near = (1 - 2 * v).mul_(v).mul_(v)
    return near.addcmul_(u.square(), u - 1, value=0.5)
