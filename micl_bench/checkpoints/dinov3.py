"""DINOv3 (Siméoni et al. 2025): rotary positions and storage tokens; timm's `Eva`."""

import re
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.eva import checkpoint_filter_fn
from torch import Tensor

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import infer_arch
from micl_bench.checkpoints._rules import drop, first_key, tensors_of
from micl_bench.checkpoints._timm_names import (
    Pixels,
    chosen,
    empty_model,
    filtered_by_timm,
    pixels_of_timm,
)
from micl_bench.runtime.errors import InputError, UntoldError

# Width and whether the MLPs are gated tell the published sizes apart.
_SIZES = {
    (384, False): "vit_small_patch16_dinov3",
    (384, True): "vit_small_plus_patch16_dinov3",
    (768, False): "vit_base_patch16_dinov3",
    (1024, False): "vit_large_patch16_dinov3",
    (1280, True): "vit_huge_plus_patch16_dinov3",
    (4096, True): "vit_7b_patch16_dinov3",
}
_DROPPED = (
    drop(r"mask_token", "mask token"),
    drop(r"rope_embed\.periods", "frequencies of the rotary positions, computed anew"),
    drop(r".+\.bias_mask", "mask of the keys' bias, which is zero"),
    drop(r"local_cls_norm\..+", "norm for small crops in pre-training"),
    drop(r"(dino|ibot)_head\..+", "projection head"),
)


def recognise(content: dict[str, Any]) -> bool:
    """Storage tokens, bare or in a table `teacher`."""
    names = set(map(_short, tensors_of(content, _key(content))))
    return {"storage_tokens", "cls_token", "blocks.0.ls1.gamma"} <= names


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """timm's filter for timm's `Eva`; rotary positions need no resampling.

    `arch` is one of timm's names, with a tag (`.sat493m`) where the pixels are not told.

    Raises:
        InputError: sizes that were not published, unknown tensors, another branch.
    """
    key = _key(content)
    known = ["teacher"] if key == "teacher" else []
    name = chosen(branch, known, "teacher") if known or branch else ""
    tensors = {_short(stored): tensor for stored, tensor in tensors_of(content, key).items()}
    sizes = infer_arch(tensors, arch=_timm_name(tensors, arch))
    mean, std = _pixels(tensors, arch)
    state, fates = filtered_by_timm(
        content,
        checkpoint_filter_fn,
        empty_model(sizes),
        _DROPPED,
        layout="dinov3",
        shorten=_short,
        key=key,
    )
    return Converted(
        arch=sizes,
        state=state,
        method="DINOv3",
        pool="token",
        num_classes=0,
        fates=fates,
        branch=name,
        mean=mean,
        std=std,
    )


def _key(content: dict[str, Any]) -> str:
    return first_key(content, "teacher", "model", "state_dict")


def _short(name: str) -> str:
    return re.sub(r"^(module\.)?(backbone\.)?", "", name)


def _width(tensors: dict[str, Tensor]) -> int:
    class_token = tensors.get("cls_token")
    if class_token is None or class_token.ndim != 3:
        raise InputError("the tensors are no DINOv3's: cls_token is missing or misshapen")
    return class_token.shape[-1]


def _timm_name(tensors: dict[str, Tensor], arch: str | None) -> str:
    """timm has each model twice, with and without a bias of queries and values."""
    size = (_width(tensors), "blocks.0.mlp.w1.weight" in tensors)
    if arch is None and size not in _SIZES:
        raise UntoldError(
            f"no DINOv3 of width {size[0]} {'with' if size[1] else 'without'} gated MLPs was "
            "published; give --arch with the name of timm's model"
        )
    name = (arch or _SIZES[size]).partition(".")[0].removesuffix("_qkvb")
    return name + ("_qkvb" if "blocks.0.attn.qkv.bias" in tensors else "")


def _pixels(tensors: dict[str, Tensor], arch: str | None) -> Pixels:
    """Mean and std by timm's table of pre-trained models: those on satellite images differ."""
    width = _width(tensors)
    if arch is None and width == 4096:
        raise UntoldError(
            "the 7B models on web and satellite images look alike but read other pixels; give "
            "--arch vit_7b_patch16_dinov3.lvd1689m or --arch vit_7b_patch16_dinov3.sat493m"
        )
    if arch is None and width == 1024 and "local_cls_norm.weight" in tensors:
        # Of the large models only the one on satellite images has this norm.
        arch = "vit_large_patch16_dinov3.sat493m"
    told = pixels_of_timm(arch) if arch else None
    return told or (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
