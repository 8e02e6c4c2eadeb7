"""The few images that pictures show: chosen, read as in evaluation, and put through a network.

Shapes: N images, C channels, H, W pixels.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.backbone import Vit
from micl_bench.checkpoints import Checkpoint
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.runs.precision import at_precision

Arrays = dict[str, NDArray[Any]]
"""What a picture is drawn from; the ends of the names are the axes."""

T = TypeVar("T")


def spread(available: int, number: int) -> NDArray[np.int64]:
    """At most `number` indices below `available`, evenly from the first to the last."""
    return np.linspace(0, available - 1, min(number, available)).astype(np.int64)


def chosen_images(source: Source, pixels: Pixels, number: int) -> tuple[Tensor, list[str]]:
    """At most `number` images, spread evenly over a source: uint8 images_NCHW, and their names.

    Raises:
        InputError: an unreadable image, or a store that was packed for other pixels.
    """
    index_N = spread(len(source), number)
    batches = evaluation_batches(source, pixels, batch_size=len(index_N), index_N=index_N)
    (batch,) = batches
    return batch.images, [str(source.names[i]) for i in index_N]


@torch.inference_mode()
def seen_by(
    checkpoint: Checkpoint,
    images_NCHW: Tensor,
    read: Callable[[Vit, Tensor], T],
    *,
    device: torch.device,
) -> T:
    """`read(vit, images)` of the backbone at the images' size, in fp32, with its own normalisation.

    Args:
        images_NCHW: uint8, square.

    Raises:
        InputError: the network cannot be brought to this size.
    """
    vit = checkpoint.backbone(img_size=images_NCHW.shape[-1]).to(device)
    with at_precision("fp32", vit, device):
        return read(vit, checkpoint.normalise(images_NCHW.to(device)))


def as_pictures(images_NCHW: Tensor) -> NDArray[np.uint8]:
    """images_NHWC."""
    return np.ascontiguousarray(images_NCHW.permute(0, 2, 3, 1).cpu().numpy())
