"""timm's names (VisionTransformer, Beit, Eva), with or without a head; asked where no other fits."""

import re
from typing import Any

import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from torch import Tensor

from micl_bench.backbone import Arch, arch_names, timm_vit
from micl_bench.checkpoints import micl_bench
from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._infer import assumed, infer_arch
from micl_bench.checkpoints._metadata import Statements, options_of, statements_of
from micl_bench.checkpoints._network import Network, chosen, num_classes_of, pixels_of_timm
from micl_bench.checkpoints._options import IMAGENET, Pixels, stated_arch
from micl_bench.checkpoints._rules import (
    OTHER,
    Rule,
    account,
    count_tensors,
    drop,
    keep,
    tensors_of,
)
from micl_bench.runtime.errors import InputError, UnstatedError

# Where timm's own `load_checkpoint` looks, in its order: averaged weights first; then mmengine's.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
_TABLES = (*_AVERAGED, "state_dict", "model")
# Wrappers put these before names, whatever else lies beside them.
_PREFIX = r"((module|model|timm_model)\.)*"
_TELLTALE = {"patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.0.mlp.fc1.weight"}
_RULES = (
    drop(r"pre_logits\..+", "representation layer, which timm no longer has"),
    drop(r"(.+\.)?relative_position_index", "table of offsets, computed anew"),
    drop(r"rope\.(?!freqs$).+", "computed anew"),
    drop(r"steps|n_averaged", "how many were averaged"),
)
# timm's own filters rename these in files of the authors of DeiT III and of EVA.
_VIT = (keep(r"(.+)gamma_(\d)", r"\1ls\2.gamma"),)
_EVA = (
    keep(r"(.+)mlp\.ffn_ln\.(.+)", r"\1mlp.norm.\2"),
    keep(r"(.+)attn\.inner_attn_ln\.(.+)", r"\1attn.norm.\2"),
    keep(r"(.+)mlp\.w12\.(.+)", r"\1mlp.fc1.\2"),
    keep(r"(.+)mlp\.w1\.(.+)", r"\1mlp.fc1_g.\2"),
    keep(r"(.+)mlp\.w2\.(.+)", r"\1mlp.fc1_x.\2"),
    keep(r"(.+)mlp\.w3\.(.+)", r"\1mlp.fc2.\2"),
)
_EVA_WITHOUT_QKV = keep(r"(.+)attn\.([qv])_bias", r"\1attn.\2_proj.bias")


def recognise(content: dict[str, Any]) -> bool:
    """Return whether these names are bare, or under `model`, `state_dict` or their averages."""
    return any(network.names(content) >= _TELLTALE for network in _networks(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert by the shapes, or by the architecture's name from the user or the file.

    An `arch` with timm's tag (`vit_base_patch16_224.augreg_in21k`) brings its pixels' mean and std.

    Raises:
        InputError: there is no such branch, or averaged weights have other names.
    """
    networks = _networks(content)
    if micl_bench.ABOUT in content:
        tensors = tensors_of(content, networks[0].key)
        about = content[micl_bench.ABOUT]
        return micl_bench.from_about(about, tensors, arch=arch, branch=branch)
    network, keys = chosen(networks, branch), {one.key for one in networks}
    for top in _AVERAGED if branch is None and "" not in keys else ():
        if count_tensors(content.get(top)) and not keys & {top, f"{top}.module"}:
            raise InputError(
                f"the averaged weights under {top!r} have other names than timm's; "
                "--branch base reads the others"
            )
    found = {
        re.sub(f"^{_PREFIX}", "", name): tensor
        for name, tensor in tensors_of(content, network.key).items()
    }
    stated = statements_of(content)
    sizes, guesses = _sizes(found, stated, arch)
    state, fates = account(
        content,
        _rules_of(sizes, found),
        layout="timm",
        key=network.key,
        prefix=_PREFIX,
        beside=dict.fromkeys(_TABLES, OTHER),
    )
    pixels = _pixels(arch, stated)
    mean, std = pixels or IMAGENET
    return Converted(
        arch=sizes,
        state=state,
        method="",
        pool="avg" if "fc_norm.weight" in state or not sizes.class_token else "token",
        num_classes=num_classes_of(state),
        fates=fates,
        branch=network.branch if "ema" in {one.branch for one in networks} else "",
        mean=mean,
        std=std,
        guesses=guesses if pixels else (*guesses, "pixels"),
        proven=stated.timm_script or "architecture" in options_of(content, "config"),
    )


def _networks(content: dict[str, Any]) -> list[Network]:
    """Return the tables with a ViT, averaged weights first; the file itself where there are none."""
    averaged: tuple[str, ...] = _AVERAGED
    if {"message_hub", "ema_state_dict"} <= content.keys():
        # mmengine swaps the two as it saves, so that whoever reads `state_dict` has the averages.
        averaged = ("state_dict",)
    tables = [
        Network("ema" if top in averaged else "base", key, _PREFIX)
        for top in _TABLES
        for key in (top, f"{top}.module")
    ]
    found = [one for one in tables if one.names(content) >= _TELLTALE]
    return sorted(found, key=lambda one: one.branch != "ema") or [Network("base", "", _PREFIX)]


def _sizes(
    found: dict[str, Tensor], stated: Statements, arch: str | None
) -> tuple[Arch, tuple[Guess, ...]]:
    """Return the architecture, by a name from user or file or else by shapes, and what remains open."""
    for name in stated.names if arch is None else ():
        if (named := _as_named(found, name)) is not None:
            return named, ()
    try:
        sizes = infer_arch(found, arch=arch)
    except UnstatedError:
        size = stated.first("size")
        side = size[0] // found["patch_embed.proj.weight"].shape[-1] if size else 0
        if arch is not None or not side:
            raise
        # Where the input's size is stated, so is its grid.
        arch = f"grid={side}x{side}"
        sizes = infer_arch(found, arch=arch)
    return sizes, assumed(sizes, arch)


def _as_named(found: dict[str, Tensor], name: str) -> Arch | None:
    """Return timm's architecture of that name, or None where the tensors have other sizes."""
    try:
        timm_vit(name)
        sizes = infer_arch(found, arch=name)
    except InputError:
        return None
    with torch.device("meta"):
        expected = sizes.build_any().state_dict()
    shared = expected.keys() & found.keys()
    blocks = {key.split(".")[1] for key in found if key.startswith("blocks.")}
    is_same = all(expected[key].shape == found[key].shape for key in shared)
    return sizes if is_same and len(blocks) == sizes.depth else None


def _rules_of(sizes: Arch, found: dict[str, Tensor]) -> tuple[Rule, ...]:
    rules: tuple[Rule, ...] = _VIT
    model = timm_vit(sizes.timm_name) if sizes.timm_name else None
    if sizes.relative_positions or isinstance(model, Beit):
        rules = ()
    elif isinstance(model, Eva):
        has_qkv = "blocks.0.attn.q_proj.weight" not in found
        rules = _EVA if has_qkv else (*_EVA, _EVA_WITHOUT_QKV)
    return (*_RULES, *rules, keep(r".+"))


def _pixels(arch: str | None, stated: Statements) -> Pixels | None:
    """Return mean and std by the tag of `arch`, the file's words, or the model of timm's script."""
    name = stated_arch(arch).name
    if name is not None and name not in arch_names() and "." in name:
        if (pixels := pixels_of_timm(name)) is None:
            raise InputError(
                f"timm knows no weights {name!r}; give the architecture without the tag"
            )
        return pixels
    if (pixels := stated.first("pixels")) or not stated.timm_script:
        return pixels
    return next(filter(None, map(pixels_of_timm, stated.names)), None)
