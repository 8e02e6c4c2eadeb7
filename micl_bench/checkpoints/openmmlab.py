"""OpenMMLab's ViTs (mmpretrain, mmsegmentation), and timm's names under `backbone.`."""

import dataclasses
import re
from typing import Any

import torch
from torch import Tensor

from micl_bench.checkpoints import micl_bench, solo_learn
from micl_bench.checkpoints._converted import Converted, PositionRule
from micl_bench.checkpoints._infer import assumed, infer_arch
from micl_bench.checkpoints._rules import (
    Rule,
    account,
    drop,
    first_key,
    keep,
    split,
    tensors_of,
)
from micl_bench.checkpoints._timm_names import Pixels, num_classes_of
from micl_bench.checkpoints._told import IMAGENET
from micl_bench.runtime.errors import InputError

_END = r"(weight|bias)"
_TOP = r"(?:backbone\.)?"
_LAYER = rf"{_TOP}layers\.(\d+)\."
_RULES = (
    keep(rf"{_TOP}(cls_token|pos_embed)", r"\1"),
    keep(rf"{_TOP}patch_embed\.projection\.{_END}", r"patch_embed.proj.\1"),
    keep(rf"{_TOP}ln1\.{_END}", r"norm.\1"),
    keep(rf"{_TOP}ln2\.{_END}", r"fc_norm.\1"),
    keep(rf"{_TOP}(rel_pos_bias\.relative_position_bias_table)", r"\1"),
    keep(rf"{_LAYER}ln([12])\.{_END}", r"blocks.\1.norm\2.\3"),
    # mmsegmentation's attention is torch's, mmpretrain's is timm's.
    keep(rf"{_LAYER}attn\.attn\.in_proj_{_END}", r"blocks.\1.attn.qkv.\2"),
    keep(rf"{_LAYER}attn\.attn\.out_proj\.{_END}", r"blocks.\1.attn.proj.\2"),
    keep(rf"{_LAYER}attn\.(qkv|proj)\.{_END}", r"blocks.\1.attn.\2.\3"),
    keep(rf"{_LAYER}attn\.([qv]_bias|relative_position_bias_table)", r"blocks.\1.attn.\2"),
    keep(rf"{_LAYER}ffn\.layers\.0\.0\.{_END}", r"blocks.\1.mlp.fc1.\2"),
    keep(rf"{_LAYER}ffn\.layers\.1\.{_END}", r"blocks.\1.mlp.fc2.\2"),
    keep(rf"{_LAYER}attn\.gamma1\.weight", r"blocks.\1.ls1.gamma"),
    keep(rf"{_LAYER}ffn\.gamma2\.weight", r"blocks.\1.ls2.gamma"),
    keep(rf"{_LAYER}(gamma_[12])", r"blocks.\1.\2"),
    drop(r"(.+\.)?relative_position_index", "table of offsets, computed anew"),
    drop(rf"{_TOP}mask_token", "mask token"),
    drop(r"(neck|target_generator|data_preprocessor)\..+", "decoder or targets of pre-training"),
    drop(r"(decode_head|auxiliary_head|rpn_head|roi_head)\..+", "head of another task"),
)
# `MiCLViT`, this package's backbone for OpenMMLab, holds timm's model as `vit`.
_TIMM = r"backbone\.(?:vit\.)?"
_TIMM_RULES = (
    keep(rf"{_TIMM}(cls_token|pos_embed|reg_token)", r"\1"),
    keep(rf"{_TIMM}((?:patch_embed|blocks|norm|fc_norm|head)\..+)", r"\1"),
    keep(rf"{_TIMM}(rel_pos_bias\.relative_position_bias_table)", r"\1"),
    drop(r"backbone\.rescale\..+", "rescaling of maps for a task's head"),
)
_HEAD = keep(rf"head\.(?:fc|layers\.head)\.{_END}", r"head.\1")
_NO_HEAD = drop(r"head\..+", "head of pre-training, or one that reads a layer of its own")
# Beside relative positions timm has no bias of keys; softmax does not see one.
_NO_KEY_BIAS = split(
    rf"{_LAYER}attn\.qkv\.bias", (r"blocks.\1.attn.q_bias", "", r"blocks.\1.attn.v_bias")
)
# Width and heads by mmpretrain's names; its small one is of width 768 with 8 heads.
_ARCHS = {
    **dict.fromkeys(("s", "small"), (768, 8)),
    **dict.fromkeys(("b", "base", "deit-b", "deit-base"), (768, 12)),
    **dict.fromkeys(("l", "large"), (1024, 16)),
    **dict.fromkeys(("h", "huge"), (1280, 16)),
    **dict.fromkeys(("deit-t", "deit-tiny"), (192, 3)),
    **dict.fromkeys(("deit-s", "deit-small", "dinov2-s", "dinov2-small"), (384, 6)),
}
_LIST = r"\s*=\s*\[([^\]]*)\]"


def recognise(content: dict[str, Any]) -> bool:
    """OpenMMLab's names of a ViT's layers, or timm's under `backbone.` and no head of DINO's."""
    names = set(tensors_of(content, _key(content)))
    if any(re.match(rf"{_LAYER}ln1\.weight", name) for name in names):
        return any(re.match(rf"{_TOP}patch_embed\.projection\.", name) for name in names)
    distilled = any(name.startswith("head.last_layer") for name in names)
    # lightly's wrapper and DINOv2 have a mask token there.
    is_own = _is_timm(names) and not distilled and "backbone.mask_token" not in names
    return is_own and not solo_learn.recognise(content)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The backbone, and a classifier's head where it reads the backbone's features directly.

    Norms have the epsilon 1e-6 of mmpretrain and of mmsegmentation's configurations of ViTs; mean
    and std come from the configuration in the file, if there is one. Positions are interpolated
    bicubically, as both libraries do. What `micl-bench convert` wrote into the file's `meta` is
    taken instead, where it is there.

    Raises:
        InputError: unknown tensors, or a backbone without its final norm.
    """
    if branch:
        raise InputError(f"the file has no branch {branch!r}; it holds one network")
    key = _key(content)
    names = set(tensors_of(content, key))
    state, fates = account(content, _rules(names), layout="openmmlab", key=key)
    if any(".attn.attn." in name for name in names):
        # mmsegmentation's ViT has no bias there unless it is asked for: the same as zeros.
        projection = state.get("patch_embed.proj.weight", torch.zeros(0))
        state.setdefault("patch_embed.proj.bias", torch.zeros(len(projection)))
    if micl_bench.ABOUT in _meta(content):
        about = _meta(content)[micl_bench.ABOUT]
        told = micl_bench.from_about(about, state, arch=arch, branch=None)
        return dataclasses.replace(told, fates=fates)
    pixels = _pixels(content)
    mean, std = pixels or IMAGENET
    num_classes = num_classes_of(state)
    heads = _heads(content, state)
    wanted = f"heads={heads}" if heads and arch is None else arch
    sizes = infer_arch(state, arch=wanted)
    return Converted(
        arch=sizes,
        guesses=(*assumed(sizes, wanted), *(() if pixels else ("pixels",))),
        state=state,
        method="",
        pool="avg" if "fc_norm.weight" in state else "token",
        num_classes=num_classes,
        classes=_classes(content) if num_classes else (),
        fates=fates,
        positions=PositionRule(antialias=False),
        mean=mean,
        std=std,
    )


def _key(content: dict[str, Any]) -> str:
    return first_key(content, "state_dict", "model")


def _is_timm(names: set[str]) -> bool:
    return any(re.fullmatch(rf"{_TIMM}blocks\.0\.norm1\.weight", name) for name in names)


def _rules(names: set[str]) -> tuple[Rule, ...]:
    reads_features = not any(name.startswith("head.layers.pre_logits.") for name in names)
    heads = (_HEAD, _NO_HEAD) if reads_features else (_NO_HEAD,)
    if _is_timm(names):
        return (*_TIMM_RULES, *_RULES, *heads)
    relative = any(name.endswith("relative_position_bias_table") for name in names)
    return (*((_NO_KEY_BIAS,) if relative else ()), *_RULES, *heads)


def _meta(content: dict[str, Any]) -> dict[str, Any]:
    meta = content.get("meta")
    return meta if isinstance(meta, dict) else {}


def _classes(content: dict[str, Any]) -> tuple[str, ...]:
    told = _meta(content).get("dataset_meta")
    classes = told.get("classes", told.get("CLASSES")) if isinstance(told, dict) else None
    return tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()


def _heads(content: dict[str, Any], state: dict[str, Tensor]) -> int | None:
    """Of the backbone in the configuration's text: a number, or mmpretrain's name of its sizes."""
    text = str(_meta(content).get("cfg", ""))
    start = text.find("backbone")
    if start < 0 or (projection := state.get("patch_embed.proj.weight")) is None:
        return None
    if any(name.endswith("relative_position_bias_table") for name in state):
        return None
    if found := re.compile(r"num_heads['\"]?\s*[=:]\s*(\d{1,3})\b").search(text, start):
        return int(found[1])
    named = re.compile(r"arch['\"]?\s*[=:]\s*['\"]([\w-]+)['\"]").search(text, start)
    width, heads = _ARCHS.get(named[1], (0, 0)) if named else (0, 0)
    return heads if width == len(projection) else None


def _pixels(content: dict[str, Any]) -> Pixels | None:
    """Mean and std of the `data_preprocessor` in the configuration's text, there from 0 to 255."""
    text = str(_meta(content).get("cfg", ""))
    start = text.find("data_preprocessor")
    found = [re.compile(word + _LIST).search(text, max(start, 0)) for word in ("mean", "std")]
    if start < 0 or None in found:
        return None
    try:
        (red, green, blue), (of_red, of_green, of_blue) = (
            [float(value) / 255 for value in part[1].split(",") if value.strip()]
            for part in found
            if part
        )
    except ValueError as error:
        raise InputError(
            f"the configuration in the file has no mean and std of three channels: {error}"
        ) from error
    return (red, green, blue), (of_red, of_green, of_blue)
