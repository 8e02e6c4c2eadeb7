"""BEiT (Bao et al. 2022), BEiT v2 (Peng et al. 2022), and data2vec's first vision models.

All three come from one code base. data2vec 2.0 has another layout, which is not read.
"""

import dataclasses
from typing import Any

from torch import Tensor

from micl_bench.checkpoints import simmim
from micl_bench.checkpoints._beit_like import convert_beit, is_beit_like
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._metadata import options_of
from micl_bench.checkpoints._network import beside_averages, pixels_of_timm
from micl_bench.checkpoints._options import IMAGENET, INCEPTION
from micl_bench.checkpoints._rules import OTHER, drop, first_key, tensors_of

_DROPPED = (
    drop(r"lm_head\..+", "head that predicts tokens"),
    drop(r"cls_pt_(layers|norm|lm_head)\..+", "layers that pre-train the class token"),
)
_KEYS = ("model", "module", "state_dict")
_UNKNOWN_PIXELS = (
    "the file fits BEiT (pixels of mean 0.5), BEiT v2 and data2vec (ImageNet's mean) and does not state "
    "which; give --pixels inception for BEiT or --pixels imagenet for the latter two, or --arch "
    "beit_base_patch16_224, beitv2_base_patch16_224 or timm's name of its size"
)


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there are BEiT's blocks with their tables of offsets, and no sign of SimMIM."""
    names = tensors_of(content, first_key(content, *_KEYS)).keys()
    return is_beit_like(names) and not simmim.recognise(content)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert a network whose names are timm's.

    `ema` reads the averaged weights that the authors' code may save beside, as `model_ema`. A
    fine-tuned file may leave open whether it is BEiT's, which reads pixels as 2x - 1, or BEiT v2's or
    data2vec's, which read them as ImageNet's: mean and std cannot be assumed then.
    """
    networks = beside_averages(content, *_KEYS)
    tensors = tensors_of(content, networks[0].key)
    named = arch if arch and arch.startswith("beit") else ""
    converted = convert_beit(
        content,
        _DROPPED,
        networks,
        layout="beit",
        arch=arch,
        branch=branch,
        beside=dict.fromkeys((*_KEYS, "model_ema"), OTHER),
        method=_method(tensors, named),
    )
    # Pixels are read in -1 to 1 unless the options say otherwise, as the recipes of BEiT v2 and of
    # data2vec do.
    option = options_of(content, "args").get("imagenet_default_mean_and_std")
    if option is not None:
        return converted.with_pixels(IMAGENET if option else INCEPTION)
    if _is_v2(tensors) or _is_data2vec(tensors):
        return converted.with_pixels(IMAGENET)
    if named and (pixels := pixels_of_timm(named)):
        return converted.with_pixels(pixels)
    if not any(name.startswith("lm_head.") for name in tensors):
        return dataclasses.replace(converted, unknown_pixels=_UNKNOWN_PIXELS)
    # Most files of this kind are BEiT's.
    usual = converted.with_pixels(INCEPTION)
    return usual if named else dataclasses.replace(usual, guesses=("pixels",))


def _is_v2(tensors: dict[str, Tensor]) -> bool:
    return any(name.startswith("cls_pt_layers.") for name in tensors)


def _is_data2vec(tensors: dict[str, Tensor]) -> bool:
    """Return whether the head predicts features of the network's own width; BEiT's has 8,192 tokens."""
    head = tensors.get("lm_head.weight")
    return head is not None and head.ndim == 2 and head.shape[0] == head.shape[1]


def _method(tensors: dict[str, Tensor], named: str) -> str:
    if _is_v2(tensors) or named.startswith("beitv2"):
        return "BEiT v2"
    if _is_data2vec(tensors):
        return "data2vec"
    return "BEiT" if "lm_head.weight" in tensors or named else ""
