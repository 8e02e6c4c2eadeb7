"""DINOv3 (Siméoni et al. 2025): rotary positions and storage tokens; timm's `Eva`."""

from typing import Any

from torch import Tensor

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._network import (
    PLAIN,
    convert_network,
    distilled_teacher,
    pixels_of_timm,
)
from micl_bench.checkpoints._options import IMAGENET, Pixels
from micl_bench.checkpoints._rules import drop, keep, split
from micl_bench.runtime.errors import InputError, UnstatedError

# The published sizes differ in width, or in whether the MLPs are gated.
_SIZES = {
    (384, False): "vit_small_patch16_dinov3",
    (384, True): "vit_small_plus_patch16_dinov3",
    (768, False): "vit_base_patch16_dinov3",
    (1024, False): "vit_large_patch16_dinov3",
    (1280, True): "vit_huge_plus_patch16_dinov3",
    (4096, True): "vit_7b_patch16_dinov3",
}
_BLOCK = r"(blocks\.\d+)\."
_RULES = (
    # The bias of keys is zero, under a mask.
    split(rf"{_BLOCK}attn\.qkv\.bias", (r"\1.attn.q_bias", "", r"\1.attn.v_bias")),
    *PLAIN,
    keep(r"storage_tokens", "reg_token"),
    keep(rf"{_BLOCK}ls([12])\.gamma", r"\1.gamma_\2"),
    keep(rf"{_BLOCK}mlp\.w1\.(weight|bias)", r"\1.mlp.fc1_g.\2"),
    keep(rf"{_BLOCK}mlp\.w2\.(weight|bias)", r"\1.mlp.fc1_x.\2"),
    keep(rf"{_BLOCK}mlp\.w3\.(weight|bias)", r"\1.mlp.fc2.\2"),
    drop(r"mask_token", "mask token"),
    drop(r"rope_embed\.periods", "frequencies of the rotary positions, computed anew"),
    drop(r".+\.bias_mask", "mask of the keys' bias, which is zero"),
    drop(r"local_cls_norm\..+", "norm for small crops in pre-training"),
    drop(r"(dino|ibot)_head\..+", "projection head"),
)


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there are storage tokens, bare or in a table `teacher`."""
    names = distilled_teacher(content).names(content)
    return {"storage_tokens", "cls_token", "blocks.0.ls1.gamma"} <= names


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert to timm's `Eva` of that size; rotary positions need no resampling.

    `arch` is one of timm's names, with a tag (`.sat493m`) where no tensor shows the pixels.

    Raises:
        UnstatedError: the sizes were not published, or only `arch` can state the pixels.
    """
    network = distilled_teacher(content)
    names = network.names(content)
    has_local_norm = "local_cls_norm.weight" in names

    def named(state: dict[str, Tensor]) -> str:
        """Return timm's name, which says whether queries and values have a bias."""
        size = (_width(state), "blocks.0.mlp.fc1_g.weight" in state)
        if arch is None and size not in _SIZES:
            raise UnstatedError(
                f"no DINOv3 of width {size[0]} {'with' if size[1] else 'without'} gated MLPs was "
                "published; give --arch with the name of timm's model"
            )
        name = (arch or _SIZES[size]).partition(".")[0].removesuffix("_qkvb")
        return name + ("_qkvb" if "blocks.0.attn.q_bias" in state else "")

    converted = convert_network(
        content,
        _RULES,
        [network],
        layout="dinov3",
        arch=None,
        branch=branch,
        known_arch=named,
        method="DINOv3",
        pool="token",
    )
    mean, std = _pixels(converted.arch.width, arch, has_local_norm)
    return converted.with_pixels((mean, std))


def _width(state: dict[str, Tensor]) -> int:
    class_token = state.get("cls_token")
    if class_token is None or class_token.ndim != 3:
        raise InputError("the tensors are no DINOv3's: cls_token is missing or misshapen")
    return class_token.shape[-1]


def _pixels(width: int, arch: str | None, has_local_norm: bool) -> Pixels:
    """Return mean and std by timm's table of pre-trained models: those on satellite images differ."""
    if arch is None and width == 4096:
        raise UnstatedError(
            "the 7B models on web and satellite images look alike but read other pixels; give "
            "--arch vit_7b_patch16_dinov3.lvd1689m or --arch vit_7b_patch16_dinov3.sat493m"
        )
    if arch is None and width == 1024 and has_local_norm:
        # Only the large model on satellite images has this norm.
        arch = "vit_large_patch16_dinov3.sat493m"
    return (pixels_of_timm(arch) if arch else None) or IMAGENET
