"""OpenMMLab's ViTs (mmpretrain, mmsegmentation), and timm's names under `backbone.`."""

import dataclasses
import re
from collections.abc import Set
from typing import Any

import torch

from micl_bench.backbone import PositionRule
from micl_bench.checkpoints import micl_bench, solo_learn
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._network import Network, convert_network, one_table, width_of
from micl_bench.checkpoints._options import IMAGENET, Pixels
from micl_bench.checkpoints._rules import Rule, account, drop, keep, split, tensors_of
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
    """Return whether layers have OpenMMLab's names, or timm's under `backbone.` without DINO's head."""
    names = tensors_of(content, _network(content).key).keys()
    if any(re.match(rf"{_LAYER}ln1\.weight", name) for name in names):
        return any(re.match(rf"{_TOP}patch_embed\.projection\.", name) for name in names)
    is_distilled = any(name.startswith("head.last_layer") for name in names)
    # lightly's wrapper and DINOv2 have a mask token there.
    is_own = _is_timm(names) and not is_distilled and "backbone.mask_token" not in names
    return is_own and not solo_learn.recognise(content)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the backbone, and a classifier's head where it reads the backbone's features directly.

    Norms have the epsilon 1e-6 of mmpretrain and of mmsegmentation's configurations of ViTs; mean
    and std come from the configuration in the file, if there is one. Positions are interpolated
    bicubically, as both libraries do. A description by `micl-bench convert` in the file's `meta` goes
    before all that.
    """
    network, meta = _network(content), _meta(content)
    names = tensors_of(content, network.key).keys()
    rules = _rules(names)
    if micl_bench.ABOUT in meta:
        state, fates = account(content, rules, layout="openmmlab", key=network.key)
        about = meta[micl_bench.ABOUT]
        described = micl_bench.from_about(about, state, arch=arch, branch=branch)
        return dataclasses.replace(described, fates=fates)
    text = str(meta.get("cfg", ""))
    pixels = _pixels(text)
    mean, std = pixels or IMAGENET
    is_relative = any(name.endswith("relative_position_bias_table") for name in names)
    converted = convert_network(
        content,
        rules,
        [network],
        layout="openmmlab",
        arch=arch,
        branch=branch,
        known_arch=lambda state: None if is_relative else _heads(text, width_of(state)),
        guesses=() if pixels else ("pixels",),
        positions=PositionRule(antialias=False),
        mean=mean,
        std=std,
    )
    state = converted.state
    if any(".attn.attn." in name for name in names):
        # mmsegmentation's ViT has no bias there unless it is asked for: the same as zeros.
        state.setdefault("patch_embed.proj.bias", torch.zeros(width_of(state)))
    return dataclasses.replace(converted, classes=_classes(meta) if converted.num_classes else ())


def _network(content: dict[str, Any]) -> Network:
    return one_table(content, "state_dict", "model")


def _is_timm(names: Set[str]) -> bool:
    return any(re.fullmatch(rf"{_TIMM}blocks\.0\.norm1\.weight", name) for name in names)


def _rules(names: Set[str]) -> tuple[Rule, ...]:
    reads_features = not any(name.startswith("head.layers.pre_logits.") for name in names)
    heads = (_HEAD, _NO_HEAD) if reads_features else (_NO_HEAD,)
    if _is_timm(names):
        return (*_TIMM_RULES, *_RULES, *heads)
    is_relative = any(name.endswith("relative_position_bias_table") for name in names)
    return (*((_NO_KEY_BIAS,) if is_relative else ()), *_RULES, *heads)


def _meta(content: dict[str, Any]) -> dict[str, Any]:
    meta = content.get("meta")
    return meta if isinstance(meta, dict) else {}


def _classes(meta: dict[str, Any]) -> tuple[str, ...]:
    table = meta.get("dataset_meta")
    classes = table.get("classes", table.get("CLASSES")) if isinstance(table, dict) else None
    return tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()


def _heads(text: str, width: int) -> str | None:
    """Return the heads, as `--arch` states them, that the configuration's text gives the backbone."""
    backbone = text[text.find("backbone") :] if "backbone" in text else ""
    if found := re.search(r"num_heads['\"]?\s*[=:]\s*(\d{1,3})\b", backbone):
        return f"heads={found[1]}"
    named = re.search(r"arch['\"]?\s*[=:]\s*['\"]([\w-]+)['\"]", backbone)
    own, heads = _ARCHS.get(named[1], (0, 0)) if named else (0, 0)
    return f"heads={heads}" if heads and own == width else None


def _pixels(text: str) -> Pixels | None:
    """Return mean and std of the `data_preprocessor` in the configuration's text, in 0 to 255."""
    start = max(text.find("data_preprocessor"), 0)
    mean, std = (re.compile(word + _LIST).search(text, start) for word in ("mean", "std"))
    if "data_preprocessor" not in text or not mean or not std:
        return None
    try:
        (red, green, blue), (of_red, of_green, of_blue) = (
            [float(value) / 255 for value in found[1].split(",") if value.strip()]
            for found in (mean, std)
        )
    except ValueError as error:
        raise InputError(
            f"the configuration in the file has no mean and std of three channels: {error}"
        ) from error
    return (red, green, blue), (of_red, of_green, of_blue)
