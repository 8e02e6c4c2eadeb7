"""From decoded images to the network's input: geometry per image, normalising per batch.

Randomness comes from a generator handed in, so that an image's crop depends on (seed, epoch, index)
alone and never on which worker drew it.
"""

import dataclasses
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from micl_bench.data.folder import to_tensor
from micl_bench.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """Input size and what is done to reach it. Everything here moves the numbers."""

    img_size: int = 224
    crop_pct: float = 0.875
    """Evaluation: the short side becomes img_size / crop_pct, then the centre is cut out."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Training: area range of RandomResizedCrop; (1, 1) is the evaluation's centre crop."""
    flip: bool = False
    """Training: mirror half of the images; wrong where left and right carry meaning, as in digits."""

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise InputError(f"crop_scale is {self.crop_scale}; needed: 0 < low <= high <= 1")
        if not 0 < self.crop_pct <= 1 or self.img_size < 1:
            raise InputError(
                f"crop_pct is {self.crop_pct}, img_size {self.img_size}; needed: 0 < crop_pct <= 1, "
                "img_size >= 1"
            )


def evaluation_pixels(image: Image.Image, pixels: Pixels) -> Tensor:
    """Bicubic resize of the short side, centre crop: uint8 (3, img_size, img_size)."""
    side = pixels.img_size
    if image.size != (side, side) or pixels.crop_pct != 1.0:
        scale = math.floor(side / pixels.crop_pct) / min(image.size)
        width, height = (max(side, round(length * scale)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - side) / 2), round((height - side) / 2)
        image = image.crop((left, top, left + side, top + side))
    return to_tensor(image)


def training_pixels(image: Image.Image, pixels: Pixels, rng: np.random.Generator) -> Tensor:
    """RandomResizedCrop (aspect 3/4 to 4/3, bicubic) and flip as `pixels` asks: uint8 (3, s, s)."""
    if pixels.crop_scale == (1.0, 1.0):
        tensor = evaluation_pixels(image, pixels)
    else:
        size = (pixels.img_size, pixels.img_size)
        box = random_crop(image.size, pixels.crop_scale, rng)
        tensor = to_tensor(image.resize(size, Image.Resampling.BICUBIC, box=box))
    return tensor.flip(-1) if pixels.flip and rng.random() < 0.5 else tensor


def random_crop(
    size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) as Inception's random crop: ten tries, else the centre."""
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def normalise(images_NCHW: Tensor) -> Tensor:
    """uint8 pixels to fp32 with ImageNet's mean and standard deviation."""
    device = images_NCHW.device
    mean_C11 = torch.tensor(IMAGENET_MEAN, device=device).mul(255).view(3, 1, 1)
    std_C11 = torch.tensor(IMAGENET_STD, device=device).mul(255).view(3, 1, 1)
    return (images_NCHW.float() - mean_C11) / std_C11
