"""The part of a batch that a pre-training step takes: patches, their places, and what is drawn for them.

Shapes: N images, V views, K patches per view, M = V * K, P values per patch, (channel, row, column).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from micl_bench.data.folder import Folder
from micl_bench.data.own_crops import Crop, CutCrops, OwnCrops, folder_crops
from micl_bench.data.packed.store import Store
from micl_bench.data.pixels import Pixels, enough_pixels, training_crops
from micl_bench.data.resample import Windows, cut_windows, resample_windows
from micl_bench.data.source import Source, require_pixels
from micl_bench.data.stream import Keys, load, own_share, random_pixels, training_keys
from micl_bench.data.to_device import each_tensor
from micl_bench.patches import gather_patches
from micl_bench.runtime.errors import InputError

Draw = Callable[[int, int, NDArray[np.integer]], Tensor]
DrawMore = Callable[[int, int, NDArray[np.integer]], dict[str, Tensor]]


def _nothing_more(seed: int, epoch: int, index_N: NDArray[np.integer]) -> dict[str, Tensor]:
    # No lambda: processes that decode images get it by its name.
    return {}


@dataclasses.dataclass(frozen=True)
class Seen:
    """What an objective sees of N images."""

    visible_NMP: Tensor
    """Pixels of the patches: normalised where an objective gets them, before that in 0 .. 255."""
    keep_NVK: Tensor
    """The patches' places, int64, row-major in the grid."""
    drawn: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """The objective's own draws, by name (`Patches.more`); N rows each."""
    local: "Seen | None" = None
    """The second group of views (`Patches.local`)."""

    def __len__(self) -> int:
        return len(self.keep_NVK)

    def split(self, size: int) -> "list[Seen]":
        """Cut into parts of at most `size` images."""
        parts = [slice(start, start + size) for start in range(0, len(self), size)]
        local = [None] * len(parts) if self.local is None else self.local.split(size)
        return [
            Seen(
                self.visible_NMP[part],
                self.keep_NVK[part],
                {name: tensor[part] for name, tensor in self.drawn.items()},
                own,
            )
            for part, own in zip(parts, local, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Visible:
    """The visible patches of a batch: uint8 pixels, or windows to resample on the device; or the crops
    that they are of, to be changed there."""

    pixels: Tensor | Windows | CutCrops
    keep_NVK: Tensor
    drawn: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    local: "Visible | None" = None

    def __len__(self) -> int:
        return len(self.keep_NVK)

    def patches(self) -> Tensor:
        """Return visible_NMP in 0 .. 255, uint8 or fp32, on the device that the batch is on."""
        if isinstance(self.pixels, CutCrops):
            return self.pixels.patches(self.keep_NVK)
        if isinstance(self.pixels, Windows):
            return resample_windows(self.pixels)
        return self.pixels

    def seen(self) -> Seen:
        """Return the patches, in 0 .. 255, with places and draws."""
        local = None if self.local is None else self.local.seen()
        return Seen(self.patches(), self.keep_NVK, self.drawn, local)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patches:
    """The wanted patches of an image: V groups of K patches, of one crop or each of a crop of its own.

    A whole crop is one group of all its patches.
    """

    num_views: int
    """V: groups."""
    per_view: int
    """K: patches of a group."""
    of: int
    """L: patches of the crop."""
    patch_size: int
    draw: Draw
    """Draws keep_NVK, int64, by (seed, epoch, index_N)."""
    more: DrawMore = _nothing_more
    """Draws what else the objective needs, tensors of N rows by name, for the images of a whole batch: a
    row may depend on the batch that its image is in."""
    crops: tuple[Crop, ...] = ()
    """One per view where each is of a crop of its own; empty where all are of one, which the recipe's
    `pixels` describe."""
    local: "Patches | None" = None
    """Beside `crops`, a second group of views, of crops of another size."""

    def __str__(self) -> str:
        all_patches = self.per_view == self.of
        if self.crops:
            some = "" if all_patches else f", {self.per_view} of {self.of} patches of each"
            local = "" if self.local is None else f", {self.local}"
            return f"{self.num_views} crops of {self.groups[0].size} px{some}{local}"
        if self.num_views == 1:
            return f"{'all' if all_patches else f'{self.per_view} of'} {self.of} patches"
        return f"{self.num_views} views of {self.per_view} of {self.of} patches"

    def require(self, source: Source, pixels: Pixels) -> None:
        """Check that training images of a source can be seen so.

        Raises:
            InputError: a store was packed for something else, or `pixels` crops or flips where each view
                is a crop of its own.
        """
        if not self.crops:
            require_pixels(source, pixels, patch_size=self.patch_size)
            return
        if isinstance(source, Store):
            self.groups[0].require_pictures(source)
        if pixels.crop_scale != (1.0, 1.0) or pixels.flip:
            raise InputError(
                "pixels.crop_scale and pixels.flip are of recipes with one crop of an image; this one "
                "has several, which its objective describes: leave them out"
            )

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
        own = own_share(batch_size, part)
        keys = training_keys(source, batch_size=batch_size, seed=seed, steps=steps)
        if isinstance(source, Folder):
            yield from load(_FolderImages(source, pixels, self, seed, own), keys, num_workers)
            return
        for epoch, batch_N in keys:
            index_N = batch_N[own]
            keep_NVK, drawn = self.drawn(seed, epoch, batch_N, own)
            keep_NM = keep_NVK.flatten(1)
            if self.crops:
                cuts = [one.of_store(source, pixels, seed, epoch, index_N) for one in self.groups]
                yield self.of_crops(cuts, keep_NVK, drawn, seed, epoch, index_N)
                continue
            if source.layout == "patch":
                yield Visible(source.visible_patches(index_N, keep_NM), keep_NVK, drawn)
                continue
            crops = training_crops(seed, epoch, index_N, source.sizes_N2[index_N], pixels)
            sides = {"img_size": pixels.img_size, "patch_size": self.patch_size}
            yield Visible(cut_windows(source, index_N, crops, keep_NM, **sides), keep_NVK, drawn)

    @property
    def groups(self) -> tuple[OwnCrops, ...]:
        """The crops that the views are of, where each has its own; those of `local` come second."""
        size = math.isqrt(self.of) * self.patch_size
        own = OwnCrops(views=self.crops, size=size, patch_size=self.patch_size)
        if self.local is None:
            return (own,)
        return own, dataclasses.replace(self.local.groups[0], first=len(self.crops))

    def of_crops(
        self,
        cuts: Sequence[CutCrops],
        keep_NVK: Tensor,
        drawn: dict[str, Tensor],
        seed: int,
        epoch: int,
        index_N: NDArray[np.integer],
    ) -> Visible:
        """Put the crops of each group together, as a batch of these images."""
        local = None
        if self.local is not None:
            local = Visible(cuts[1], self.local.draw(seed, epoch, index_N))
        return Visible(cuts[0], keep_NVK, drawn, local)

    def drawn(
        self, seed: int, epoch: int, batch_N: NDArray[np.integer], own: slice = slice(None)
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return keep_NVK and the further draws of the images `own` of a batch."""
        more = self.more(seed, epoch, batch_N)
        keep_NVK = self.draw(seed, epoch, batch_N[own])
        return keep_NVK, {name: tensor[own] for name, tensor in more.items()}

    def of_images(self, images_NCHW: Tensor, index_N: NDArray[np.integer], *, seed: int) -> Seen:
        """Return the patches that uint8 images of these numbers have in the first epoch."""
        keep_NVK, drawn = self.drawn(seed, 0, index_N)
        device = images_NCHW.device
        if self.crops:
            cuts = [one.of_images(images_NCHW, seed, index_N) for one in self.groups]
            batch = self.of_crops(cuts, keep_NVK, drawn, seed, 0, index_N)
            moved: Visible = each_tensor(batch, lambda one: one.to(device))
            return moved.seen()
        keep_NVK = keep_NVK.to(device)
        drawn = {name: one.to(device) for name, one in drawn.items()}
        return Seen(gather_patches(images_NCHW, keep_NVK, self.patch_size), keep_NVK, drawn)


@dataclasses.dataclass(frozen=True)
class _FolderImages(Dataset):
    """The images of a folder, a whole batch at a time."""

    folder: Folder
    pixels: Pixels
    wanted: Patches
    seed: int
    own: slice
    """This process's part of each batch."""

    def __getitem__(self, key: Keys) -> Visible:
        epoch, batch_N = key
        keep_NVK, drawn = self.wanted.drawn(self.seed, epoch, batch_N, self.own)
        if self.wanted.crops:
            wanted, index_N = self.wanted, batch_N[self.own]
            of_images = (self.folder, self.pixels, self.seed, epoch, index_N)
            cuts = folder_crops(wanted.groups, *of_images)
            return wanted.of_crops(cuts, keep_NVK, drawn, self.seed, epoch, index_N)
        images = [self._image(epoch, index) for index in batch_N[self.own]]
        visible_NMP = gather_patches(torch.stack(images), keep_NVK, self.wanted.patch_size)
        return Visible(visible_NMP, keep_NVK, drawn)

    def _image(self, epoch: int, index: np.integer) -> Tensor:
        # A crop needs all the pixels there are; else as many as a packed store is made from.
        cropped = self.pixels.crop_scale != (1.0, 1.0)
        enough = 0 if cropped else enough_pixels(self.pixels.img_size, self.pixels.crop_pct)
        image = self.folder.read(int(index), at_least=enough)
        return random_pixels(image, self.pixels, self.seed, epoch, index)
