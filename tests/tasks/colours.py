"""A classifier whose answers are known: each class has a colour, an image shows the nearest one's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from micl_bench.backbone import Arch
from micl_bench.checkpoints import save_checkpoint
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from micl_bench.robustness import imagenet_classes

IDS = imagenet_classes()
SIDE = 8
SMALL = ("pixels.img_size=8", "pixels.crop_pct=1.0", "num_workers=0", "allow_partial=true")
"""What makes an ImageNet recipe fit the images here."""
_CONSTANT = 4.0


def colour(number: int) -> tuple[int, int, int]:
    """Of one of 1000 classes: its three digits, far enough apart to survive JPEG."""
    return (12 + 25 * (number // 100), 12 + 25 * (number // 10 % 10), 12 + 25 * (number % 10))


def paint(
    path: Path,
    rgb: tuple[int, int, int],
    *,
    side: int = SIDE,
    frame: int = 0,
    frame_rgb: tuple[int, int, int] = (255, 0, 0),
) -> None:
    """One image of a colour, with a frame of `frame` pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (side + 2 * frame, side + 2 * frame), frame_rgb)
    image.paste(rgb, (frame, frame, frame + side, frame + side))
    # PNG takes no quality.
    image.save(path, quality=95)


def nearest(rgb: tuple[int, int, int], among: Sequence[int]) -> int:
    """The class, of some, whose colour is nearest, as the classifier sees colours."""
    distances = [((_seen([rgb]) - _seen([colour(number)])) ** 2).sum() for number in among]
    return among[int(np.argmin(distances))]


def save_classifier(
    path: Path, *, order: Sequence[int], names: Sequence[str] = (), **provenance: object
) -> None:
    """Write it: output i answers with class `order[i]`. Without names, as timm would.

    Its block adds nothing, and the head's logits are |x|² less the squared distances to the colours,
    times what the norm divides by, which is the same for all classes.
    """
    arch = Arch(name="colours", img_size=SIDE, patch_size=4, width=64, depth=1, num_heads=1)
    model: Any = arch.build(num_classes=len(order), pool="avg")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (model.blocks[0].norm1, model.blocks[0].norm2, model.fc_norm):
            norm.weight.fill_(1.0)
        for channel in range(3):
            model.patch_embed.proj.weight[channel, channel] = 1 / 16
            model.patch_embed.proj.weight[channel + 3, channel] = -1 / 16
        model.patch_embed.proj.bias[6:8] = torch.tensor([_CONSTANT, -_CONSTANT])
        seen_C3 = torch.from_numpy(_seen([colour(number) for number in order])).float()
        model.head.weight[:, :3] = 2 * seen_C3
        model.head.weight[:, 6] = -seen_C3.square().sum(dim=1) / _CONSTANT
    if names:
        told = {"classes": list(names), **provenance}
        save_checkpoint(path, model, arch, method="colours", provenance=told)
    else:
        torch.save(model.state_dict(), path)


def _seen(colours: Sequence[tuple[int, int, int]]) -> NDArray[np.float64]:
    return (np.array(colours) / 255 - IMAGENET_MEAN) / IMAGENET_STD
