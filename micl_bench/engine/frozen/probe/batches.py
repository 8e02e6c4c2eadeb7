"""The training batches of a linear probe: features computed once, or of freshly augmented images.

The images of a step, and the draws for each, are functions of (seed, epoch, index): training
can be cut anywhere, and gives the same batches with any number of workers or processes.

Shapes: N images of a batch, n of one process's part of it, R readouts, D width.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels
from micl_bench.data.stream import Keys, load, random_pixels, training_keys
from micl_bench.engine.frozen.features import SLICE_IMAGES
from micl_bench.engine.frozen.probe.heads import Readouts
from micl_bench.runtime.distributed import gather_rows, rank, world_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Batches of features that were computed before, without augmentation."""

    folder: Folder
    """The images to train on, K of all M whose features there are."""
    features: Readouts
    rows_K: NDArray[np.integer]
    batch_size: int
    seed: int
    device: torch.device = torch.device("cpu")

    def __call__(self, steps: range) -> Generator[tuple[Readouts, Tensor], None, None]:
        """The batches of these steps."""
        keys = training_keys(self.folder, batch_size=self.batch_size, seed=self.seed, steps=steps)
        for _, index_N in keys:
            rows_N = torch.from_numpy(self.rows_K[index_N])
            features = {name: rows[rows_N].to(self.device) for name, rows in self.features.items()}
            yield features, torch.from_numpy(self.folder.labels_N[index_N]).to(self.device)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentedImages:
    """The frozen backbone on newly cropped and flipped images in every step.

    Each process takes whole slices of the batch, gives their features to all others, and so gets the
    whole batch: a slice has the same images, and the same shape, for any number of processes.
    """

    folder: Folder
    read: Callable[[Tensor], Tensor]
    """uint8 images (n, 3, H, W) on the device to features_nRD, fp32."""
    names: tuple[str, ...]
    """Names of the R readouts."""
    pixels: Pixels
    batch_size: int
    seed: int
    device: torch.device = torch.device("cpu")
    num_workers: int = 0

    def __call__(self, steps: range) -> Generator[tuple[Readouts, Tensor], None, None]:
        """The batches of these steps."""
        images = _Images(self.folder, self.pixels, self.seed)
        slices = load(images, self._own_keys(steps), self.num_workers)
        for _, index_N in self._keys(steps):
            own_nRD = torch.cat([self._features(next(slices)) for _ in self._own_slices()])
            # All slices but the last are full, so only padding comes after the batch.
            missing = len(self._own_slices()) * SLICE_IMAGES - len(own_nRD)
            every_NRD = gather_rows(F.pad(own_nRD, (0, 0, 0, 0, 0, missing)))[: len(index_N)]
            features = dict(zip(self.names, every_NRD.unbind(dim=1), strict=True))
            yield features, torch.from_numpy(self.folder.labels_N[index_N]).to(self.device)

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        return self.read(images.to(self.device, non_blocking=True))

    def _own_slices(self) -> range:
        total = -(-self.batch_size // SLICE_IMAGES)
        share = -(-total // world_size())
        return range(rank() * share, (rank() + 1) * share)

    def _keys(self, steps: range) -> Iterator[Keys]:
        return training_keys(self.folder, batch_size=self.batch_size, seed=self.seed, steps=steps)

    def _own_keys(self, steps: range) -> Iterator[Keys]:
        for epoch, index_N in self._keys(steps):
            for number in self._own_slices():
                own_n = index_N[number * SLICE_IMAGES : (number + 1) * SLICE_IMAGES]
                # Beyond the batch, where slices do not divide among processes: one image, whose
                # features are dropped.
                yield epoch, own_n if len(own_n) else index_N[:1]


@dataclasses.dataclass(frozen=True)
class _Images(Dataset):
    folder: Folder
    pixels: Pixels
    seed: int

    def __getitem__(self, key: Keys) -> Tensor:
        epoch, index_n = key
        return torch.stack([self._image(epoch, index) for index in index_n])

    def _image(self, epoch: int, index: np.integer) -> Tensor:
        image = self.folder.read(int(index))
        return random_pixels(image, self.pixels, self.seed, epoch, index)
