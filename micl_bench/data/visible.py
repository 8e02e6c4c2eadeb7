"""The part of a batch that a pre-training step takes: the visible patches and their places.

Shapes: N images, V views, K patches per view, M = V * K, P values per patch, (channel, row, column).
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels, enough_pixels, training_crops
from micl_bench.data.resample import Windows, cut_windows, resample_windows
from micl_bench.data.source import Source
from micl_bench.data.stream import load, random_pixels, training_keys
from micl_bench.patches import gather_patches


@dataclasses.dataclass(frozen=True)
class Visible:
    """The visible patches of a batch: uint8 pixels, or windows to resample on the device."""

    pixels: Tensor | Windows
    keep_NVK: Tensor

    def __len__(self) -> int:
        return len(self.keep_NVK)

    def patches(self) -> Tensor:
        """Return visible_NMP in 0 .. 255, uint8 or fp32, on the device that the batch is on."""
        if isinstance(self.pixels, Windows):
            return resample_windows(self.pixels)
        return self.pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patches:
    """The wanted patches of an image: V groups of K patches of one crop.

    A whole crop is one group of all its patches.
    """

    num_views: int
    """V: groups."""
    per_view: int
    """K: patches of a group."""
    of: int
    """L: patches of the crop."""
    patch_size: int
    draw: Callable[[int, int, NDArray[np.integer]], Tensor]
    """Draws keep_NVK, int64, by (seed, epoch, index_N)."""

    def __str__(self) -> str:
        return f"{self.num_views} views of {self.per_view} of {self.of} patches"

    def batches(
        self,
        source: Source,
        pixels: Pixels,
        *,
        batch_size: int,
        seed: int,
        steps: range,
        part: tuple[int, int] = (0, 1),
        num_workers: int = 0,
    ) -> Iterator[Visible]:
        """Yield one process's share of each step's batch.

        The images and their patches are functions of seed and step: neither the source's kind nor the
        number of workers or processes changes them.

        Args:
            batch_size: images over all processes.
            part: (rank, processes); each takes an equal, contiguous part of the batch.

        Raises:
            InputError: there are too few images, the processes do not divide the batch, or an image
                cannot be read.
        """
        keys = training_keys(source, batch_size=batch_size, seed=seed, steps=steps, part=part)
        if isinstance(source, Folder):
            yield from load(_FolderImages(source, pixels, self, seed), keys, num_workers)
            return
        for epoch, index_N in keys:
            keep_NVK = self.draw(seed, epoch, index_N)
            keep_NM = keep_NVK.flatten(1)
            if source.layout == "patch":
                yield Visible(source.visible_patches(index_N, keep_NM), keep_NVK)
                continue
            crops = training_crops(seed, epoch, index_N, source.sizes_N2[index_N], pixels)
            sides = {"img_size": pixels.img_size, "patch_size": self.patch_size}
            yield Visible(cut_windows(source, index_N, crops, keep_NM, **sides), keep_NVK)

    def of_images(self, images_NCHW: Tensor, index_N: NDArray[np.integer], *, seed: int) -> Visible:
        """Return the patches that images of these numbers have in the first epoch."""
        keep_NVK = self.draw(seed, 0, index_N).to(images_NCHW.device)
        return Visible(gather_patches(images_NCHW, keep_NVK, self.patch_size), keep_NVK)


@dataclasses.dataclass(frozen=True)
class _FolderImages(Dataset):
    """The images of a folder, a whole batch at a time: keys are (epoch, index_N)."""

    folder: Folder
    pixels: Pixels
    wanted: Patches
    seed: int

    def __getitem__(self, key: tuple[int, NDArray[np.integer]]) -> Visible:
        epoch, index_N = key
        keep_NVK = self.wanted.draw(self.seed, epoch, index_N)
        images = [self._image(epoch, index) for index in index_N]
        visible_NMP = gather_patches(torch.stack(images), keep_NVK, self.wanted.patch_size)
        return Visible(visible_NMP, keep_NVK)

    def _image(self, epoch: int, index: np.integer) -> Tensor:
        # A crop needs all the pixels there are; else as many as a packed store is made from.
        cropped = self.pixels.crop_scale != (1.0, 1.0)
        enough = 0 if cropped else enough_pixels(self.pixels.img_size, self.pixels.crop_pct)
        image = self.folder.read(int(index), at_least=enough)
        return random_pixels(image, self.pixels, self.seed, epoch, index)
