"""Views that are crops of their own, each with its own box, flip and changes of pixels.

The host cuts boxes out of stored pictures or decoded files; the device resamples and changes them
(`resample.py`, `photometric.py`). All that is drawn is a function of (seed, epoch, index, view).

Shapes: N images, V views, B = N * V crops, image after image; C = 3 channels, H x H pixels, L patches, K
patches of a view, P values per patch.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from micl_bench.data.crops import Crops, Sizes
from micl_bench.data.folder import Folder
from micl_bench.data.packed.store import Store
from micl_bench.data.photometric import Changes, Photometric, changed, draw_changes
from micl_bench.data.pixels import Pixels, training_crops, training_pixels
from micl_bench.data.resample import Windows, cut_windows, resample_windows, windows_at
from micl_bench.patches import gather_patches, unpatchify
from micl_bench.runtime.errors import InputError

# Sides of the tiles that a crop is resampled in. Measured on a CPU, 320 to 224 pixels: 1.1 ms a crop in
# tiles of 32, 1.9 in those of 16, 2.6 to 4.4 as a whole, for a fifth more bytes than that.
_TILES = range(8, 33)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop:
    """One view: a random crop, and the changes of its pixels."""

    scale: tuple[float, float]
    """Area range of RandomResizedCrop; (1, 1) is the evaluation's centre crop."""
    flip: bool
    """Mirror half of the crops."""
    photometric: Photometric

    def __post_init__(self) -> None:
        # Which checks the range.
        self.of(Pixels())

    def of(self, pixels: Pixels, *, size: int = 0) -> Pixels:
        """Return `pixels` with this crop's range and flip, and another size."""
        return dataclasses.replace(pixels, img_size=size, crop_scale=self.scale, flip=self.flip)


@dataclasses.dataclass(frozen=True)
class CutCrops:
    """Crops of N images, before they are changed: uint8 images_BCHW, or windows to resample."""

    pixels: Tensor | Windows
    changes: Changes
    patch_size: int

    def images(self) -> Tensor:
        """Return the changed crops, images_BCHW, fp32 in 0 to 255, on the device of the batch."""
        images_BCHW = self.pixels
        if isinstance(images_BCHW, Windows):
            tile = images_BCHW.patch_size
            images_BCHW = unpatchify(resample_windows(images_BCHW), tile)
        return changed(images_BCHW, self.changes)

    def patches(self, keep_NVK: Tensor) -> Tensor:
        """Return visible_NMP of the changed crops."""
        N, V, K = keep_NVK.shape
        keep_B1K = keep_NVK.view(N * V, 1, K)
        return gather_patches(self.images(), keep_B1K, self.patch_size).view(N, V * K, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnCrops:
    """V crops of an image, of `size` pixels a side."""

    views: tuple[Crop, ...]
    size: int
    patch_size: int
    first: int = 0
    """Number of the first view among all of the image."""

    def of_store(
        self, store: Store, pixels: Pixels, seed: int, epoch: int, index_N: NDArray[np.integer]
    ) -> CutCrops:
        """Cut the crops of images of a store.

        Raises:
            InputError: as `require_pictures`.
        """
        self.require_pictures(store)
        boxes = self._boxes(pixels, seed, epoch, index_N, store.sizes_N2[index_N])
        each_B = np.repeat(index_N, len(self.views))
        keep_BM, sides = self._tiles(len(each_B))
        windows = cut_windows(store, each_B, boxes, keep_BM, **sides)
        return self.cut(windows, seed, epoch, index_N)

    def require_pictures(self, store: Store) -> None:
        """Raise an InputError unless a store has whole pictures."""
        if store.layout == "patch":
            raise InputError(
                f"{store.root} is packed in the patch layout, which has one crop of each image; the "
                f"recipe takes {len(self.views)}: pack with --layout image, or give the folder of images"
            )

    def of_image(
        self, image: Image.Image, pixels: Pixels, seed: int, epoch: int, index: np.integer
    ) -> list[Tensor]:
        """Crop a decoded image: V of uint8 (3, H, H)."""
        boxes = self._boxes(pixels, seed, epoch, np.array([index]), np.array([image.size]))
        return [
            training_pixels(image, view.of(pixels, size=self.size), box_4, bool(flip))
            for view, box_4, flip in zip(self.views, boxes.box_N4, boxes.flip_N, strict=True)
        ]

    def of_images(self, images_NCHW: Tensor, seed: int, index_N: NDArray[np.integer]) -> CutCrops:
        """Cut the crops that uint8 images of these numbers have in the first epoch; on the host."""
        pixels_NHH3 = images_NCHW.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        N, H = pixels_NHH3.shape[:2]
        boxes = self._boxes(Pixels(crop_pct=1.0), seed, 0, index_N, np.full((N, 2), H))
        each_B = np.repeat(np.arange(N), len(self.views))
        keep_BM, sides = self._tiles(len(each_B))
        windows = windows_at(pixels_NHH3, each_B, boxes, keep_BM, **sides)
        return self.cut(windows, seed, 0, index_N)

    def _tiles(self, number: int) -> tuple[Tensor, dict[str, int]]:
        """Places of all tiles of so many crops, and sizes as `cut_windows` takes them."""
        tile = max((side for side in _TILES if self.size % side == 0), default=self.size)
        # In memory of their own, which page-locked copies need.
        keep_BM = torch.arange((self.size // tile) ** 2).repeat(number, 1)
        return keep_BM, {"img_size": self.size, "patch_size": tile}

    def _boxes(
        self,
        pixels: Pixels,
        seed: int,
        epoch: int,
        index_N: NDArray[np.integer],
        sizes_N2: Sizes,
    ) -> Crops:
        """Boxes of all views, in original pixels."""
        drawn = [
            training_crops(seed, epoch, index_N, sizes_N2, view.of(pixels, size=self.size), number)
            for number, view in enumerate(self.views, start=self.first)
        ]
        return Crops(
            box_N4=np.stack([one.box_N4 for one in drawn], axis=1, dtype=np.float64).reshape(-1, 4),
            flip_N=np.stack([one.flip_N for one in drawn], axis=1).reshape(-1),
        )

    def cut(
        self, cut: Tensor | Windows, seed: int, epoch: int, index_N: NDArray[np.integer]
    ) -> CutCrops:
        """Add the changes that are drawn for crops of these images."""
        wanted = [view.photometric for view in self.views]
        changes = draw_changes(seed, epoch, index_N, wanted, first=self.first)
        return CutCrops(cut, changes, self.patch_size)


def folder_crops(
    groups: Sequence[OwnCrops],
    folder: Folder,
    pixels: Pixels,
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
) -> list[CutCrops]:
    """Decode images of a folder, each once, and crop them for each group of views.

    Raises:
        InputError: an image cannot be read.
    """
    crops: list[list[Tensor]] = [[] for _ in groups]
    for index in index_N:
        image = folder.read(int(index))
        for group, found in zip(groups, crops, strict=True):
            found += group.of_image(image, pixels, seed, epoch, index)
    return [
        group.cut(torch.stack(found), seed, epoch, index_N)
        for group, found in zip(groups, crops, strict=True)
    ]
