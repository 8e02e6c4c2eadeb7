"""The network's input from decoded images: geometry per image, normalising per batch."""

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from micl_bench.data.crops import Crops, Sizes, centre_boxes, draw_crops
from micl_bench.data.folder import to_tensor
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Fraction, SideOrOwn, Values

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# No photograph is that many times as long as wide; one by ten thousand pixels would be resized to 256 by
# 2,560,000.
_LONG = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels(Values):
    """Input size, and the steps that reach it. Everything here moves the numbers."""

    img_size: SideOrOwn = 0
    """Pixels of a side of the network's input; 0 for the checkpoint's own, which takes its place as soon
    as the checkpoint is read."""
    crop_pct: Fraction = 0.875
    """Evaluation: the short side becomes img_size / crop_pct, then the centre is cut out."""
    crop_scale: tuple[Fraction, Fraction] = (1.0, 1.0)
    """Training: area range of RandomResizedCrop; (1, 1) is the evaluation's centre crop."""
    flip: bool = False
    """Training: mirror half of the images; wrong where left and right carry meaning, as in digits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.crop_scale
        if low > high:
            raise InputError(f"crop_scale is {self.crop_scale}; needed: the smaller number first")


def enough_pixels(size: int, crop_pct: float) -> int:
    """Return the side, in pixels, that loses next to nothing when it is resized for a crop of `size`.

    It is twice the resized side, as Pillow advises for its own reduced decoding.
    """
    return 2 * math.ceil(size / crop_pct)


def evaluation_pixels(image: Image.Image, pixels: Pixels) -> Tensor:
    """Return the centre crop after a bicubic resize: uint8 (3, img_size, img_size).

    The short side becomes floor(img_size / crop_pct), as in timm and MAE. The bits are those of
    torchvision's `Resize` and `CenterCrop` on Pillow images, with which published numbers were measured:
    the long side is cut to whole pixels, not rounded.
    """
    side = pixels.img_size
    if image.size != (side, side) or pixels.crop_pct != 1.0:
        short, shortest = math.floor(side / pixels.crop_pct), min(image.size)
        width, height = (short * length // shortest for length in image.size)
        left, top = round((width - side) / 2), round((height - side) / 2)
        box = (left, top, left + side, top + side)
        if max(image.size) > _LONG * min(image.size):
            return to_tensor(_resized_part(image, (width, height), box))
        image = image.resize((width, height), Image.Resampling.BICUBIC).crop(box)
    return to_tensor(image)


def _resized_part(
    image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]
) -> Image.Image:
    """Return a box of the image resized to `size`, without the rest, which may not fit into memory.

    Pillow passes over rows and columns in another order then, and rounds in between: pixels differ by
    a few grey levels, so ordinary images are resized in full.
    """
    left, top, right, bottom = box
    across, down = image.width / size[0], image.height / size[1]
    return image.resize(
        (right - left, bottom - top),
        Image.Resampling.BICUBIC,
        box=(left * across, top * down, right * across, bottom * down),
    )


def training_crops(
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
    sizes_N2: Sizes,
    pixels: Pixels,
    view: int = 0,
) -> Crops:
    """Return the crops and flips of `pixels`, in original pixels, by (seed, epoch, index, view)."""
    scale, flip = pixels.crop_scale, pixels.flip
    crops = draw_crops(seed, epoch, index_N, sizes_N2, scale=scale, flip=flip, view=view)
    if scale != (1.0, 1.0):
        return crops
    return dataclasses.replace(crops, box_N4=centre_boxes(sizes_N2, pixels.crop_pct))


def training_pixels(
    image: Image.Image, pixels: Pixels, box_4: NDArray[np.number], flip: bool
) -> Tensor:
    """Return one crop, bicubic, mirrored if `flip`: uint8 (3, img_size, img_size).

    It is cropped before it is resized, as in torchvision: nothing outside the crop shows. Where `pixels`
    asks for the centre, it is cut as in evaluation, whatever the box.
    """
    if pixels.crop_scale == (1.0, 1.0):
        tensor = evaluation_pixels(image, pixels)
    else:
        left, top, right, bottom = map(int, box_4)
        size = (pixels.img_size, pixels.img_size)
        crop = image.crop((left, top, right, bottom))
        tensor = to_tensor(crop.resize(size, Image.Resampling.BICUBIC))
    return tensor.flip(-1) if flip else tensor


def normalise(
    images_NCHW: Tensor,
    *,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Tensor:
    """Return fp32 images, less the mean, over std; pixels are in 0 to 255, mean and std in 0 to 1."""
    device = images_NCHW.device
    mean_C11 = torch.tensor(mean, device=device).mul(255).view(3, 1, 1)
    std_C11 = torch.tensor(std, device=device).mul(255).view(3, 1, 1)
    # One new tensor: the first touch of fresh memory costs more than the sums.
    return (images_NCHW - mean_C11).div_(std_C11)


def evaluation_settings(pixels: Pixels) -> dict[str, object]:
    """Return the settings of images in evaluation, as a protocol's fingerprint holds them."""
    return {
        "img_size": pixels.img_size,
        "crop_pct": pixels.crop_pct,
        "resize": "torchvision's Resize (short side, bicubic) and CenterCrop on Pillow images",
        "decoder": "Pillow",
    }
