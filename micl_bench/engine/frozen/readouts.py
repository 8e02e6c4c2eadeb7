"""What frozen evaluations read of a ViT: [CLS] and patch means, from one forward pass."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from micl_bench.backbone import Arch, Vit
from micl_bench.checkpoints import ModuleEncoder
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import shown

# Part of the key of stored features. It stands for this code: raise it with any change of what images
# become on their way to a readout (decoding, resizing, normalising, the network, this file).
VERSION = 3

_LAYERS = 4


def readout_names(vit: Vit | ModuleEncoder) -> tuple[str, ...]:
    """`cls_1` .. `cls_4`: [CLS] of the last block, the one before, ...; `avg_1`: the last block's mean
    patch. Without [CLS] `avg_1` .. `avg_4`. Shallow models have fewer.
    """
    if isinstance(vit, ModuleEncoder):
        return vit.readouts
    return _names(len(vit.blocks), class_token=vit.cls_token is not None)


def require_readouts(arch: Arch, wanted: Iterable[str]) -> None:
    """Raise an InputError unless a network has all that is to be read of it."""
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
    """Readouts of whole, normalised images, all after the final norm: features_NRD, fp32."""
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
