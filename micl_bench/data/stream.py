"""Batches of a folder: endless and random for training, once through for evaluation.

The order of images and every random number of an image are functions of (seed, epoch, index), so a
run can be cut anywhere and go on with the very same batches, with any number of workers.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from micl_bench.data.folder import Folder, read_image
from micl_bench.data.pixels import Pixels, evaluation_pixels, training_pixels
from micl_bench.errors import InputError

# Separate random streams: the order must not change when an image draws one number more.
_ORDER, _IMAGE = 0, 1


def image_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one image in one epoch."""
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence((seed, _IMAGE, epoch, index)))
    )


def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """A permutation of the images for one epoch."""
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(length)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images (N, 3, H, W) uint8, labels (N,) and, for training, noise (N, L) in [0, 1)."""

    images: Tensor
    labels: Tensor
    noise: Tensor


@dataclasses.dataclass(frozen=True)
class _TrainingImages(Dataset):
    """Keys are (epoch, index)."""

    folder: Folder
    pixels: Pixels
    seed: int
    num_noise: int

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, Tensor]:
        _, index = key
        rng = image_rng(self.seed, *key)
        # Noise first: an image's views stay the same when its crop draws more numbers.
        noise = torch.from_numpy(rng.random(self.num_noise))
        image = read_image(self.folder.paths[index])
        return training_pixels(image, self.pixels, rng), self.folder.labels[index], noise


@dataclasses.dataclass(frozen=True)
class _EvaluationImages(Dataset):
    """Keys are indices."""

    folder: Folder
    pixels: Pixels

    def __getitem__(self, index: int) -> tuple[Tensor, int, Tensor]:
        image = read_image(self.folder.paths[index])
        return evaluation_pixels(image, self.pixels), self.folder.labels[index], torch.empty(0)


def training_batches(
    folder: Folder,
    pixels: Pixels,
    *,
    batch_size: int,
    seed: int,
    steps: range,
    num_noise: int = 0,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Full batches for the given steps; an epoch's incomplete last batch is dropped.

    Raises:
        InputError: fewer images than a batch, or an unreadable image.
    """
    per_epoch = steps_per_epoch(folder, batch_size)

    def keys() -> Iterator[list[tuple[int, int]]]:
        order, epoch_of_order = np.empty(0, dtype=int), -1
        for step in steps:
            epoch, position = divmod(step, per_epoch)
            if epoch != epoch_of_order:
                order, epoch_of_order = epoch_order(seed, epoch, len(folder)), epoch
            chosen = order[position * batch_size : (position + 1) * batch_size]
            yield [(epoch, int(index)) for index in chosen]

    yield from _load(_TrainingImages(folder, pixels, seed, num_noise), keys(), num_workers)


def evaluation_batches(
    folder: Folder, pixels: Pixels, *, batch_size: int, num_workers: int = 0
) -> Iterator[Batch]:
    """Every image exactly once, in the folder's order; the last batch may be smaller.

    Raises:
        InputError: an unreadable image.
    """
    starts = range(0, len(folder), batch_size)
    keys = [list(range(s, min(s + batch_size, len(folder)))) for s in starts]
    yield from _load(_EvaluationImages(folder, pixels), keys, num_workers)


def steps_per_epoch(folder: Folder, batch_size: int) -> int:
    """Full batches in one epoch.

    Raises:
        InputError: fewer images than a batch.
    """
    if batch_size > len(folder):
        raise InputError(
            f"batch size {batch_size} is more than the {len(folder)} images of {folder.root}; lower it"
        )
    return len(folder) // batch_size


def _load(images: Dataset, keys: Iterable, num_workers: int) -> Iterator[Batch]:
    loader = DataLoader(images, batch_sampler=keys, num_workers=num_workers, collate_fn=_collate)
    try:
        yield from loader
    except InputError as error:
        # From a worker process torch wraps the message in that process's stack trace.
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from error


def _collate(items: list[tuple[Tensor, int, Tensor]]) -> Batch:
    images, labels, noise = zip(*items, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), torch.stack(noise))
