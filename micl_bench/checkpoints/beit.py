"""BEiT (Bao et al. 2022), BEiT v2 (Peng et al. 2022), and data2vec's first vision models.

All three come from one code base. data2vec 2.0 has another layout, which is not read.
"""

from typing import Any

from torch import Tensor

from micl_bench.checkpoints import simmim
from micl_bench.checkpoints._beit_like import convert_beit_like, is_beit_like
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._rules import drop, first_key, tensors_of
from micl_bench.checkpoints._timm_names import (
    Pixels,
    num_classes_of,
    pixels_of_timm,
    table_beside_averages,
)
from micl_bench.checkpoints._told import IMAGENET, INCEPTION

_DROPPED = (
    drop(r"lm_head\..+", "head that predicts tokens"),
    drop(r"cls_pt_(layers|norm|lm_head)\..+", "layers that pre-train the class token"),
)
_KEYS = ("model", "module", "state_dict")
_UNTOLD = (
    "the file fits BEiT (pixels of mean 0.5), BEiT v2 and data2vec (ImageNet's mean) and does not tell "
    "which; give --pixels inception for BEiT or --pixels imagenet for the latter two, or --arch "
    "beit_base_patch16_224, beitv2_base_patch16_224 or timm's name of its size"
)


def recognise(content: dict[str, Any]) -> bool:
    """BEiT's blocks with their tables of offsets, and no sign of SimMIM."""
    names = set(tensors_of(content, first_key(content, *_KEYS)))
    return is_beit_like(names) and not simmim.recognise(content)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Through timm's filter; tables of relative positions are resized as timm does.

    `ema` reads the averaged weights that the authors' code may save beside, as `model_ema`.

    Raises:
        InputError: a fine-tuned file that does not tell BEiT, which reads pixels as 2x - 1, from
            BEiT v2 and data2vec, which read them as ImageNet's; unknown tensors.
    """
    key, name, beside = table_beside_averages(content, _KEYS, branch)
    tensors = tensors_of(content, key)
    sizes, state, fates = convert_beit_like(
        content, tensors, arch=arch, layout="beit", key=key, dropped=_DROPPED, beside=beside
    )
    pixels = _pixels(content, tensors, arch)
    mean, std = pixels or INCEPTION
    is_assumed = pixels is not None and _leaves_open(content, tensors, arch)
    return Converted(
        arch=sizes,
        state=state,
        method=_method(tensors, arch),
        pool="token" if {"head.weight", "norm.weight"} <= state.keys() else "avg",
        num_classes=num_classes_of(state),
        fates=fates,
        branch=name,
        mean=mean,
        std=std,
        guesses=("pixels",) if is_assumed else (),
        untold_pixels="" if pixels else _UNTOLD,
    )


def _leaves_open(content: dict[str, Any], tensors: dict[str, Tensor], arch: str | None) -> bool:
    """Whether the pixels are those of BEiT only because most files of this kind are its."""
    option = getattr(content.get("args"), "imagenet_default_mean_and_std", None)
    is_named = bool(arch and arch.startswith("beit"))
    return option is None and not (is_named or _is_v2(tensors) or _is_data2vec(tensors))


def _is_v2(tensors: dict[str, Tensor]) -> bool:
    return any(name.startswith("cls_pt_layers.") for name in tensors)


def _is_data2vec(tensors: dict[str, Tensor]) -> bool:
    """data2vec predicts features of the network's own width, BEiT one of 8,192 tokens."""
    head = tensors.get("lm_head.weight")
    return head is not None and head.ndim == 2 and head.shape[0] == head.shape[1]


def _pixels(content: dict[str, Any], tensors: dict[str, Tensor], arch: str | None) -> Pixels | None:
    """Mean and std: of the run's options, or what the authors' recipes say, or of timm's model.

    Pixels are read in -1 to 1 unless `imagenet_default_mean_and_std` is set, as the recipes of
    BEiT v2 and of data2vec do.
    """
    option = getattr(content.get("args"), "imagenet_default_mean_and_std", None)
    if option is not None:
        return IMAGENET if option else INCEPTION
    if _is_v2(tensors) or _is_data2vec(tensors):
        return IMAGENET
    told = pixels_of_timm(arch) if arch and arch.startswith("beit") else None
    if told is not None:
        return told
    if any(name.startswith("lm_head.") for name in tensors):
        return INCEPTION
    return None


def _method(tensors: dict[str, Tensor], arch: str | None) -> str:
    if _is_v2(tensors) or (arch or "").startswith("beitv2"):
        return "BEiT v2"
    if _is_data2vec(tensors):
        return "data2vec"
    return "BEiT" if "lm_head.weight" in tensors or (arch or "").startswith("beit") else ""
