"""What a model gives for each image of a folder or store: every image once, always the same bits.

A sum's rounding depends on the shape of the product it is part of. So images are computed in slices
of one size, cut by their place in the source: neither the batch size nor the number of processes
changes what any of them is computed with.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels, evaluation_settings
from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.runtime.distributed import all_rows, rank, world_size
from micl_bench.runtime.log import Progress

SLICE_IMAGES = 32

Function = Callable[[Tensor], Tensor]
"""From uint8 images (n, 3, H, W) on the device to outputs (n, ...)."""


def run_over_folder(
    function: Function,
    source: Source,
    pixels: Pixels,
    *,
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    label: str = "",
) -> tuple[Tensor, Tensor]:
    """Apply `function` to every image once; returns outputs_ND fp32 and labels_N on every process.

    Bit-identical for any number of processes, which share the images, and any batch size.

    Args:
        function: applied in inference mode to `SLICE_IMAGES` images, a row of the output an image.
        batch_size: images that are read and moved to the device at a time.
        label: of the progress line; none is shown without.

    Raises:
        InputError: an unreadable image, or a store that was packed for other pixels.
    """
    slices = outputs_by_slice(
        function,
        source,
        pixels,
        device=device,
        batch_size=batch_size,
        num_workers=num_workers,
        label=label,
    )
    own = [outputs for _, outputs in slices]
    outputs_ND = all_rows(torch.cat(own) if own else torch.empty(0))
    if len(outputs_ND) != len(source):
        raise RuntimeError(f"{len(outputs_ND)} of {len(source)} images were computed")
    return outputs_ND, torch.from_numpy(np.asarray(source.labels_N))


def outputs_by_slice(
    function: Function,
    source: Source,
    pixels: Pixels,
    *,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    label: str,
) -> Iterator[tuple[int, Tensor]]:
    """This process's share of `run_over_folder`: index of a slice's first image, outputs_nD on the
    CPU, in the source's order."""
    own = own_images(len(source))
    if not isinstance(source, Folder):
        # What a stored picture is resampled with depends on those that are read with it.
        batch_size = SLICE_IMAGES
    batches = evaluation_batches(
        source,
        pixels,
        batch_size=batch_size,
        index_N=np.arange(own.start, own.stop),
        num_workers=num_workers,
    )
    first, waiting = own.start, torch.empty(0)
    quiet = not label or rank() > 0
    with Progress(label, total=-(-len(own) // batch_size), quiet=quiet) as progress:
        for batch in batches:
            images = batch.images.to(device)
            waiting = torch.cat([waiting, images]) if len(waiting) else images
            last = first + len(waiting) >= own.stop
            end = len(waiting) if last else len(waiting) // SLICE_IMAGES * SLICE_IMAGES
            for part in waiting[:end].split(SLICE_IMAGES) if end else ():
                yield first, _apply(function, part)
                first += len(part)
            waiting = waiting[end:]
            progress.step()


def reading(source: Source, pixels: Pixels) -> dict[str, Any]:
    """How images reach the network, as a protocol's fingerprint holds it."""
    settings = evaluation_settings(pixels)
    if isinstance(source, Folder) or source.layout == "patch":
        return settings
    squashed = f"squashed to {source.size} px, then the crop, bicubic, antialiased"
    return settings | {"resize": squashed}


def own_images(images: int) -> range:
    """Those that this process computes: whole slices, as even a share as they allow."""
    slices = -(-images // SLICE_IMAGES)
    # Rounded up: where there are more processes than slices, the first ones have some.
    ends = [-(-slices * number // world_size()) for number in (rank(), rank() + 1)]
    first, end = (min(end * SLICE_IMAGES, images) for end in ends)
    return range(first, end)


@torch.inference_mode()
def _apply(function: Function, images: Tensor) -> Tensor:
    """Outputs of up to a slice of images, which is filled up with copies of the last one."""
    missing = SLICE_IMAGES - len(images)
    padded = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
    return function(padded)[: len(images)].float().cpu()
