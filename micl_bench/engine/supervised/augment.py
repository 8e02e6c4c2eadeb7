"""The augmentation of a training image after its crop: RandAugment and random erasing, timm's own.

Shapes: N images, H, W pixels, E erased boxes, T numbers of noise in all of them.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.utils.data import Dataset

from micl_bench.data.folder import Folder, to_tensor
from micl_bench.data.pixels import Pixels
from micl_bench.data.stream import load, random_pixels, training_keys
from micl_bench.runs.seeded import seeded
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream
from micl_bench.runtime.values import Probability, Values, shown

# Share of the side, as in timm's training transforms; RandAugment's own default is for 224 pixels.
_TRANSLATED = 0.45


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig(Values):
    """Drawn for each image on its own. Defaults: those of MAE's fine-tuning."""

    rand_augment: str = "rand-m9-mstd0.5-inc1"
    """RandAugment in timm's notation; empty for none."""
    erase_probability: Probability = 0.25
    """Probability that a box of 2 % to a third of the image is filled with normal noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rand_augment:
            rand_augment(self.rand_augment, img_size=224, mean=(0.5, 0.5, 0.5))


def rand_augment(notation: str, *, img_size: int, mean: tuple[float, float, float]) -> RandAugment:
    """Build timm's RandAugment; pixels from outside get the colour `mean` (of pixels in 0 to 1).

    Raises:
        InputError: the notation is none of timm's.
    """
    options = {
        "translate_const": int(img_size * _TRANSLATED),
        "img_mean": tuple(min(255, round(255 * value)) for value in mean),
        "interpolation": Image.Resampling.BICUBIC,
    }
    try:
        policy = rand_augment_transform(notation, options)
    except (AssertionError, ValueError, TypeError) as error:
        raise InputError(
            f"rand_augment is {shown(notation)}; timm's notation is rand-m9-mstd0.5-inc1"
        ) from error
    for operation in policy.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return policy


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """The highest bits of each value; none of them is black, as Pillow had it before it refused 0,
    which timm asks for at the largest magnitude."""
    return image.point([value & ~(0xFF >> bits) for value in range(256)] * 3)


@dataclasses.dataclass(frozen=True)
class LabelledBatch:
    """One process's share of a training batch: uint8 images (N, 3, H, W), labels, boxes to erase."""

    images: Tensor
    labels: Tensor
    boxes_E5: NDArray[np.int64]
    """Erased boxes: image, top, left, height, width; read on the CPU."""
    noise_T: Tensor
    """Noise that fills them: (3, height, width) of each box, one after the other; fp32."""
    epoch: int
    index_N: NDArray[np.integer]
    """Indices of the images in the folder."""

    def erase(self, images_NCHW: Tensor) -> None:
        """Write the noise over normalised images, in place."""
        C = images_NCHW.shape[1]
        boxes = self.boxes_E5.tolist()
        sizes = [C * height * width for *_, height, width in boxes]
        for box, noise in zip(boxes, self.noise_T.split(sizes) if boxes else (), strict=True):
            image, top, left, height, width = box
            noise_CHW = noise.view(C, height, width)
            images_NCHW[image, :, top : top + height, left : left + width] = noise_CHW


def augmented_batches(
    folder: Folder,
    pixels: Pixels,
    config: AugmentConfig,
    *,
    mean: tuple[float, float, float],
    batch_size: int,
    seed: int,
    steps: range,
    part: tuple[int, int] = (0, 1),
    num_workers: int = 0,
) -> Iterator[LabelledBatch]:
    """One process's share of each step's batch, the same for any number of workers or processes.

    Args:
        mean: of the pixels the network was trained on.
        batch_size: images over all processes.
        part: (rank, processes); each takes an equal, contiguous part of the batch.
    """
    keys = training_keys(folder, batch_size=batch_size, seed=seed, steps=steps, part=part)
    yield from load(_AugmentedImages(folder, pixels, config, mean, seed), keys, num_workers)


@dataclasses.dataclass(frozen=True)
class _AugmentedImages(Dataset):
    """Fetched a whole batch at a time: keys are (epoch, index_N)."""

    folder: Folder
    pixels: Pixels
    config: AugmentConfig
    mean: tuple[float, float, float]
    seed: int

    def __getitem__(self, key: tuple[int, NDArray[np.integer]]) -> LabelledBatch:
        epoch, index_N = key
        images = [self._image(epoch, index) for index in index_N]
        return LabelledBatch(
            torch.stack(images),
            torch.from_numpy(self.folder.labels_N[index_N]),
            *self._erased(epoch, index_N),
            epoch,
            index_N,
        )

    def _image(self, epoch: int, index: np.integer) -> Tensor:
        image = self.folder.read(int(index))
        pixels_CHW = random_pixels(image, self.pixels, self.seed, epoch, index)
        if not self.config.rand_augment:
            return pixels_CHW
        with seeded(self.seed, epoch, int(index), stream=Stream.AUGMENT):
            return to_tensor(self._policy(Image.fromarray(pixels_CHW.permute(1, 2, 0).numpy())))

    @functools.cached_property
    def _policy(self) -> RandAugment:
        return rand_augment(self.config.rand_augment, img_size=self.pixels.img_size, mean=self.mean)

    def _erased(self, epoch: int, index_N: NDArray[np.integer]) -> tuple[NDArray[np.int64], Tensor]:
        """boxes_E5 and noise_T of `LabelledBatch`."""
        boxes, noises = [], [torch.empty(0)]
        if self.config.erase_probability:
            for number, index in enumerate(index_N):
                with seeded(self.seed, epoch, int(index), stream=Stream.ERASE):
                    found = erased_box(self.pixels.img_size, self.config.erase_probability)
                if found is not None:
                    boxes.append([number, *found[0]])
                    noises.append(found[1].flatten())
        return np.array(boxes, dtype=np.int64).reshape(-1, 5), torch.cat(noises)


def erased_box(
    img_size: int, probability: float
) -> tuple[tuple[int, int, int, int], Tensor] | None:
    """Draw timm's random erasing of one image, from the global generators; returns (top, left, height,
    width) and noise (3, height, width), or None where nothing is erased."""
    canvas_CHW = torch.full((3, img_size, img_size), math.nan)
    RandomErasing(probability, mode="pixel", device="cpu")(canvas_CHW)
    row_H, column_W = (
        (~canvas_CHW[0].isnan()).any(dim).nonzero().flatten().tolist() for dim in (1, 0)
    )
    if not row_H:
        return None
    top, left, height, width = row_H[0], column_W[0], len(row_H), len(column_W)
    noise_CHW = canvas_CHW[:, top : top + height, left : left + width].clone()
    return (top, left, height, width), noise_CHW
