"""Batches of images for evaluation, and the images that each training step takes.

The order of images and every random number of an image are functions of (seed, epoch, index), so a
run can be cut anywhere and go on with the very same batches, with any number of workers.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from micl_bench.data.folder import Folder
from micl_bench.data.packed.store import Store
from micl_bench.data.pixels import Pixels, evaluation_pixels, training_crops, training_pixels
from micl_bench.data.resample import resampled_images
from micl_bench.data.source import Source, require_pixels
from micl_bench.data.workers import Loader
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import epoch_order
from micl_bench.runtime.wording import counted

Keys = tuple[int, NDArray[np.integer]]
"""Epoch, and indices of images."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images (N, 3, H, W) uint8 and labels (N,)."""

    images: Tensor
    labels: Tensor


def evaluation_batches(
    source: Source,
    pixels: Pixels,
    *,
    batch_size: int,
    index_N: NDArray[np.integer] | None = None,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Yield every image exactly once, in the source's order; the last batch may be smaller.

    Args:
        index_N: these images, in this order, instead of all.

    Raises:
        InputError: an image cannot be read, or a store was packed for other pixels.
    """
    index_N = np.arange(len(source)) if index_N is None else index_N
    starts = range(0, len(index_N), batch_size)
    keys = ((0, index_N[start : start + batch_size]) for start in starts)
    if isinstance(source, Folder):
        yield from load(_EvaluationImages(source, pixels), keys, num_workers)
        return
    require_pixels(source, pixels)
    for _, chosen_N in keys:
        yield Batch(
            _stored_images(source, pixels, chosen_N), torch.from_numpy(source.labels_N[chosen_N])
        )


def training_keys(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    steps: range,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Keys]:
    """Yield the images that each step takes; an epoch's incomplete last batch is dropped.

    Args:
        part: (rank, processes): only this equal, contiguous part of each batch.

    Raises:
        InputError: there are fewer images than a batch, or the processes do not divide it.
    """
    per_epoch, own = steps_per_epoch(source, batch_size), own_share(batch_size, part)
    order_N: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    epoch_of_order = -1
    for step in steps:
        epoch, position = divmod(step, per_epoch)
        if epoch != epoch_of_order:
            order_N, epoch_of_order = epoch_order(seed, epoch, len(source)), epoch
        first = position * batch_size
        yield epoch, order_N[first : first + batch_size][own]


def own_share(batch_size: int, part: tuple[int, int]) -> slice:
    """Return the place in a batch of one process's equal, contiguous part, by (rank, processes).

    Raises:
        InputError: the processes do not divide the batch.
    """
    rank, processes = part
    share, rest = divmod(batch_size, processes)
    if rest:
        raise InputError(
            f"batch size {batch_size} cannot be split over {processes} processes evenly"
        )
    return slice(rank * share, (rank + 1) * share)


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """Return the number of full batches in one epoch.

    Raises:
        InputError: there are fewer images than a batch.
    """
    if batch_size > len(source):
        raise InputError(
            f"batch size {batch_size} is more than {source.root} has, "
            f"{counted(len(source), 'image')}; lower it"
        )
    return len(source) // batch_size


def load(images: Dataset, keys: Iterable[Keys], num_workers: int) -> Iterator[Any]:
    """Iterate over the data set's items for the keys, in order, with `num_workers` processes."""
    return iter(
        Loader(images, sampler=keys, batch_size=None, num_workers=num_workers, collate_fn=_as_it_is)
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _stored_images(store: Store, pixels: Pixels, index_N: NDArray[np.integer]) -> Tensor:
    if store.layout == "patch":
        return store.images(index_N)
    return resampled_images(
        store,
        index_N,
        img_size=pixels.img_size,
        crop_pct=pixels.crop_pct,
    )


@dataclasses.dataclass(frozen=True)
class _EvaluationImages(Dataset):
    folder: Folder
    pixels: Pixels

    def __getitem__(self, key: Keys) -> Batch:
        _, index_N = key
        images = [evaluation_pixels(self.folder.image(i), self.pixels) for i in index_N]
        return Batch(torch.stack(images), torch.from_numpy(self.folder.labels_N[index_N]))


def random_pixels(
    image: Image.Image, pixels: Pixels, seed: int, epoch: int, index: np.integer
) -> Tensor:
    """Return one image as training sees it in one epoch: uint8 (3, img_size, img_size)."""
    crops = training_crops(seed, epoch, np.array([index]), np.array([image.size]), pixels)
    return training_pixels(image, pixels, crops.box_N4[0], bool(crops.flip_N[0]))
