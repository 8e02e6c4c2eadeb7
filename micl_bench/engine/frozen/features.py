"""A model's outputs for each image of a folder or store: every image once, always the same bits.

A sum's rounding depends on the shape of the product it is part of. So images are computed in slices
of one size, cut by their place in the source: neither the batch size nor the number of processes
changes what any of them is computed with.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from micl_bench.backbone import Arch, Vit
from micl_bench.checkpoints import ModuleEncoder
from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels, evaluation_settings
from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.runtime.distributed import all_rows, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress
from micl_bench.runtime.values import shown

# Part of the key of stored features. It stands for this code: raise it with any change of what images
# become on their way to a readout (decoding, resizing, normalising, the network, this file).
VERSION = 3
SLICE_IMAGES = 32
_LAYERS = 4

Function = Callable[[Tensor], Tensor]
"""Takes uint8 images (n, 3, H, W) on the device; returns outputs (n, ...)."""


def readout_names(vit: Vit | ModuleEncoder) -> tuple[str, ...]:
    """`cls_1` .. `cls_4`: [CLS] of the last block, the one before, ...; `avg_1`: the last block's mean
    patch. Without [CLS] `avg_1` .. `avg_4`. Shallow models have fewer.
    """
    if isinstance(vit, ModuleEncoder):
        return vit.readouts
    return _names(len(vit.blocks), class_token=vit.cls_token is not None)


def require_readouts(arch: Arch, wanted: Iterable[str]) -> None:
    """Raise an InputError where a network lacks one of the wanted readouts."""
    known = _names(arch.depth, class_token=arch.class_token)
    for readout in wanted:
        if readout not in known:
            raise InputError(
                f"the model has no {shown(readout)}; it has {', '.join(known)}"
                + ("" if arch.class_token else " (no [CLS]: its mean patch is avg_1)")
            )


def _names(depth: int, *, class_token: bool) -> tuple[str, ...]:
    layers = range(1, min(_LAYERS, depth) + 1)
    if not class_token:
        return tuple(f"avg_{layer}" for layer in layers)
    return (*(f"cls_{layer}" for layer in layers), "avg_1")


def read_out(vit: Vit | ModuleEncoder, images_NCHW: Tensor) -> Tensor:
    """Compute the readouts of whole, normalised images, all after the final norm: features_NRD, fp32."""
    if isinstance(vit, ModuleEncoder):
        features_NRD: Tensor = vit(images_NCHW)
        return features_NRD
    names, prefix = readout_names(vit), vit.num_prefix_tokens
    tokens: Any = vit.forward_intermediates(
        images_NCHW,
        indices=min(_LAYERS, len(vit.blocks)),
        # Without such tokens, some of timm's models fail when asked for them.
        return_prefix_tokens=prefix > 0,
        norm=True,
        output_fmt="NLC",
        intermediates_only=True,
    )
    by_layer = {}
    for layer, found in enumerate(reversed(tokens), start=1):
        patches_NLD, prefix_NTD = found if prefix else (found, None)
        # In fp32 from here on, whatever the precision of the products.
        by_layer[f"avg_{layer}"] = patches_NLD.float().mean(dim=1)
        if prefix_NTD is not None:
            by_layer[f"cls_{layer}"] = prefix_NTD[:, 0].float()
    return torch.stack([by_layer[name] for name in names], dim=1)


def run_over_folder(
    function: Function, source: Source, pixels: Pixels, *, device: torch.device, **options: Any
) -> tuple[Tensor, Tensor]:
    """Apply `function` to every image once; returns outputs_ND fp32 and labels_N on every process.

    Bit-identical for any number of processes, which share the images, and any batch size. `options` are
    those of `outputs_by_slice`.
    """
    own = [part for _, part in outputs_by_slice(function, source, pixels, device=device, **options)]
    outputs_ND = all_rows(torch.cat(own) if own else torch.empty(0))
    if len(outputs_ND) != len(source):
        raise RuntimeError(f"{len(outputs_ND)} of {len(source)} images were computed")
    return outputs_ND, torch.from_numpy(np.asarray(source.labels_N))


@torch.inference_mode()
def _apply(function: Function, images: Tensor) -> Tensor:
    """Outputs of up to a slice of images, which is filled up with copies of the last one."""
    missing = SLICE_IMAGES - len(images)
    padded = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
    return function(padded)[: len(images)].float().cpu()


def outputs_by_slice(
    function: Function,
    source: Source,
    pixels: Pixels,
    *,
    device: torch.device,
    batch_size: int = 128,
    num_workers: int = 0,
    label: str = "",
) -> Iterator[tuple[int, Tensor]]:
    """This process's share of `run_over_folder`: index of a slice's first image, outputs_nD on the
    CPU, in the source's order.

    Args:
        function: applied in inference mode to `SLICE_IMAGES` images, one row of the output per image.
        batch_size: images that are read and moved to the device at a time.
        label: of the progress line; none is shown without.
    """
    own = own_images(len(source))
    if not isinstance(source, Folder):
        # The images that are read together decide how stored ones are resampled.
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


def own_images(images: int) -> range:
    """Indices of the images that this process computes: whole slices, in shares as even as possible."""
    slices = -(-images // SLICE_IMAGES)
    # Rounded up: where there are more processes than slices, the first ones have some.
    ends = [-(-slices * number // world_size()) for number in (rank(), rank() + 1)]
    return range(*(min(end * SLICE_IMAGES, images) for end in ends))


def reading(source: Source, pixels: Pixels) -> dict[str, Any]:
    """The settings of how images reach the network, for a protocol's fingerprint."""
    settings = evaluation_settings(pixels)
    if isinstance(source, Folder) or source.layout == "patch":
        return settings
    squashed = f"squashed to {source.size} px, then the crop, bicubic, antialiased"
    return settings | {"resize": squashed}
