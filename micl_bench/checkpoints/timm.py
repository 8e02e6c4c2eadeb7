"""timm's names (VisionTransformer, Beit, Eva), with or without a head; asked where no other fits."""

import functools
import re
from typing import Any

from timm.models import VisionTransformer, eva, vision_transformer
from timm.models.beit import checkpoint_filter_fn as filter_beit
from torch import Tensor

from micl_bench.backbone import Arch, Vit, arch_names, timm_vit
from micl_bench.checkpoints import micl_bench
from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._infer import assumed, infer_arch
from micl_bench.checkpoints._rules import count_tensors, drop, tensors_of
from micl_bench.checkpoints._statements import Statements, options_of, statements_of
from micl_bench.checkpoints._timm_names import (
    FilterFn,
    Pixels,
    account_by_timm,
    empty_model,
    num_classes_of,
    pixels_of_timm,
)
from micl_bench.checkpoints._told import IMAGENET, told_by
from micl_bench.runtime.errors import InputError, UntoldError

# Where timm's own `load_checkpoint` looks, in its order: averaged weights first; then mmengine's.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
_TABLES = (*_AVERAGED, "state_dict", "model")
_COUNTS = {"steps", "n_averaged"}
# What wrappers put before every name: distributed training, `torch.compile`, Lightning.
_WRAPPERS = re.compile(r"(module\.|_orig_mod\.|model\.|timm_model\.)+")
_TELLTALE = {"patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.0.mlp.fc1.weight"}
_DROPPED = (
    drop(r"pre_logits\..+", "representation layer, which timm no longer has"),
    drop(r"(.+\.)?relative_position_index", "computed anew"),
    drop(r"rope\..+", "computed anew"),
    drop(r"steps|n_averaged", "how many were averaged"),
)


def recognise(content: dict[str, Any]) -> bool:
    """Whether the file holds these names, bare or under `model`, `state_dict` or their averages.

    Prefixes of wrappers (`module.`, `_orig_mod.`, `model.`) do not count.
    """
    return _is_vit(content, "") or bool(_tables_of(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Infer the sizes from the shapes; heads are width / 64 unless `arch` tells.

    An `arch` with timm's tag (`vit_base_patch16_224.augreg_in21k`) brings its pixels' mean and std.

    Raises:
        InputError: shapes that are no square ViT's; no such branch; averaged weights of other names.
    """
    if micl_bench.ABOUT in content:
        tensors = tensors_of(content, _table(content, _tables_of(content), None))
        about = content[micl_bench.ABOUT]
        return micl_bench.from_about(about, tensors, arch=arch, branch=branch)
    tables = _tables_of(content)
    key = _table(content, tables, branch)
    found = {_short(name): tensor for name, tensor in tensors_of(content, key).items()}
    stated = statements_of(content)
    sizes, guesses = _sizes(found, stated, arch)
    model = empty_model(sizes)
    state, fates = account_by_timm(
        content,
        _filter_of(model),
        model,
        _DROPPED,
        layout="timm",
        shorten=_short,
        key=key,
        beside=dict.fromkeys(_TABLES, "another network of the file"),
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
        branch=tables[key] if "ema" in tables.values() else "",
        mean=mean,
        std=std,
        guesses=guesses if pixels else (*guesses, "pixels"),
        proven=stated.timm_script or "architecture" in options_of(content, "config"),
    )


def _sizes(
    found: dict[str, Tensor], stated: Statements, arch: str | None
) -> tuple[Arch, tuple[Guess, ...]]:
    """By the name that the user or the file has for it, or else by shapes; what remains open."""
    if arch is None:
        for name in stated.names:
            if (named := _as_named(found, name)) is not None:
                return named, ()
    try:
        sizes = infer_arch(found, arch=arch)
    except UntoldError:
        side = stated.size[0] // found["patch_embed.proj.weight"].shape[-1] if stated.size else 0
        if arch is not None or not side:
            raise
        # Where the input's size is stated, so is its grid.
        arch = f"grid={side}x{side}"
        sizes = infer_arch(found, arch=arch)
    return sizes, assumed(sizes, arch)


def _as_named(found: dict[str, Tensor], name: str) -> Arch | None:
    """timm's architecture of that name, where the tensors are of its sizes."""
    try:
        timm_vit(name)
        sizes = infer_arch(found, arch=name)
        expected = empty_model(sizes).state_dict()
    except InputError:
        return None
    shared = expected.keys() & found.keys()
    blocks = {key.split(".")[1] for key in found if key.startswith("blocks.")}
    same = all(expected[key].shape == found[key].shape for key in shared)
    return sizes if same and len(blocks) == sizes.depth else None


def _short(name: str) -> str:
    found = _WRAPPERS.match(name)
    return name[found.end() :] if found else name


def _is_vit(content: dict[str, Any], key: str) -> bool:
    return {_short(name) for name in tensors_of(content, key)} >= _TELLTALE


def _tables_of(content: dict[str, Any]) -> dict[str, str]:
    """Tables with a ViT, and whether it is `ema` or `base`; averaged weights first."""
    averaged: tuple[str, ...] = _AVERAGED
    if {"message_hub", "ema_state_dict"} <= content.keys():
        # mmengine swaps the two as it saves, so that whoever reads `state_dict` has the averages.
        averaged = ("state_dict",)
    tables = {
        key: "ema" if top in averaged else "base"
        for top in _TABLES
        for key in (top, f"{top}.module")
        if _is_vit(content, key)
    }
    return dict(sorted(tables.items(), key=lambda table: table[1] != "ema"))


def _table(content: dict[str, Any], tables: dict[str, str], branch: str | None) -> str:
    """The key to read; `""` where the tensors lie in the file itself."""
    if not tables and branch in (None, "base"):
        return ""
    for top in _AVERAGED if branch is None else ():
        if count_tensors(content.get(top)) and not tables.keys() & {top, f"{top}.module"}:
            raise InputError(
                f"the averaged weights under {top!r} have other names than timm's; "
                "--branch base reads the others"
            )
    for key, name in tables.items():
        if branch in (None, name):
            return key
    raise InputError(
        f"the file has no branch {branch!r}; it has {', '.join(sorted(set(tables.values())))}"
    )


def _filter_of(model: Vit) -> FilterFn:
    """timm's own: old names renamed, what it computes anew left out."""
    filter_fn = eva.checkpoint_filter_fn if isinstance(model, eva.Eva) else filter_beit
    if isinstance(model, VisionTransformer):
        filter_fn = functools.partial(
            vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True
        )

    def without_counts(tensors: dict[str, Tensor], model: Vit) -> dict[str, Tensor]:
        weights = {name: value for name, value in tensors.items() if name not in _COUNTS}
        filtered: dict[str, Tensor] = filter_fn(weights, model)
        return filtered

    return without_counts


def _pixels(arch: str | None, stated: Statements) -> Pixels | None:
    """Of timm's weights where `arch` has a tag; of the model, where timm's script trained it."""
    name = told_by(arch).name
    if name is not None and name not in arch_names() and "." in name:
        if (pixels := pixels_of_timm(name)) is None:
            raise InputError(
                f"timm knows no weights {name!r}; give the architecture without the tag"
            )
        return pixels
    if stated.pixels or not stated.timm_script:
        return stated.pixels
    return next(filter(None, map(pixels_of_timm, stated.names)), None)
