"""Folders of Hugging Face's transformers: `config.json` beside the weights."""

import dataclasses
import math
import re
from typing import Any

from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)
from torch import Tensor

from micl_bench.backbone import Arch, Pool
from micl_bench.checkpoints._converted import Converted, Fate, PositionRule
from micl_bench.checkpoints._infer import infer_arch
from micl_bench.checkpoints._rules import Rule, account, drop, keep, merge, refuse_branch
from micl_bench.checkpoints._timm_names import Pixels, num_classes_of
from micl_bench.runtime.errors import InputError

_BLOCK = r"encoder\.layer\.(\d+)\."
_END = r"(weight|bias)"
_RULES = (
    keep(r"embeddings\.cls_token", "cls_token"),
    keep(r"embeddings\.position_embeddings", "pos_embed"),
    keep(r"embeddings\.register_tokens", "reg_token"),
    keep(rf"embeddings\.patch_embeddings\.projection\.{_END}", r"patch_embed.proj.\1"),
    keep(rf"{_BLOCK}(?:layernorm_before|norm1)\.{_END}", r"blocks.\1.norm1.\2"),
    keep(rf"{_BLOCK}(?:layernorm_after|norm2)\.{_END}", r"blocks.\1.norm2.\2"),
    merge(
        rf"{_BLOCK}attention\.attention\.(?P<part>query|key|value)\.{_END}",
        r"blocks.\1.attn.qkv.\3",
        parts=("query", "key", "value"),
    ),
    keep(rf"{_BLOCK}attention\.output\.dense\.{_END}", r"blocks.\1.attn.proj.\2"),
    keep(
        rf"{_BLOCK}(?:intermediate\.dense|mlp\.fc1|mlp\.weights_in)\.{_END}",
        r"blocks.\1.mlp.fc1.\2",
    ),
    keep(rf"{_BLOCK}(?:output\.dense|mlp\.fc2|mlp\.weights_out)\.{_END}", r"blocks.\1.mlp.fc2.\2"),
    keep(rf"{_BLOCK}layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    keep(rf"layernorm\.{_END}", r"norm.\1"),
    drop(r"embeddings\.mask_token", "mask token"),
    drop(r"pooler\..+", "pooler, a layer after the features"),
    drop(r"decoder\..+", "decoder"),
)
_GATED_WIDTH = 1536
_RESCALE = 1 / 255
_NUMBERS_NEEDED = (
    "preprocessor_config.json needs three numbers each for image_mean (0 to 1) and image_std (above "
    "0, at most 1)"
)
_HEAD = keep(rf"classifier\.{_END}", r"head.\1")
_NO_HEAD = drop(r"classifier\..+", "head on [CLS] and the patches' mean together; timm's has none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
    """What differs between transformers' models."""

    method: str = ""
    pool: Pool = "token"
    antialias: bool = False
    mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD
    """Where the folder has no `preprocessor_config.json`."""
    head: Rule = _HEAD


_KINDS = {
    # Without a file that says more, as transformers' own image processor for it: -1 to 1.
    "vit": _Kind(mean=IMAGENET_INCEPTION_MEAN, std=IMAGENET_INCEPTION_STD),
    "vit_mae": _Kind(method="MAE"),
    "vit_msn": _Kind(method="MSN"),
    "ijepa": _Kind(method="I-JEPA", pool="avg"),
    "dinov2": _Kind(method="DINOv2", head=_NO_HEAD),
    "dinov2_with_registers": _Kind(method="DINOv2 with registers", antialias=True, head=_NO_HEAD),
}


def recognise(content: dict[str, Any]) -> bool:
    """A table `config` with a `model_type` beside the tensors."""
    config = content.get("config")
    return isinstance(config, dict) and "model_type" in config and "model" in content


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Names after timm's; heads, norms' epsilon and classes from the configuration.

    Positions are interpolated as by transformers' `interpolate_pos_encoding`.

    Raises:
        InputError: a model type or an option that is not read, unknown tensors, pixels that cannot
            be prepared as `preprocessor_config.json` says.
    """
    if not recognise(content):
        raise InputError("not a folder of transformers: config.json has no model_type")
    config = content["config"]
    kind = _KINDS.get(str(config["model_type"]))
    if kind is None:
        raise InputError(
            f"a folder of model type {config['model_type']!r}; read are {', '.join(_KINDS)}"
        )
    refuse_branch(branch)
    if config.get("hidden_act", "gelu") != "gelu":
        raise InputError(f"hidden_act is {config['hidden_act']!r}; timm's ViTs have gelu")
    tables = {name: value for name, value in content.items() if name in ("config", "model")}
    state, fates = account(
        tables,
        (*_RULES, kind.head),
        layout="huggingface",
        key="model",
        prefix=r"(vit|ijepa|dinov2|dinov2_with_registers)\.",
    )
    preprocessor = content.get("preprocessor_config")
    mean, std = _pixels(preprocessor, kind)
    is_stated = isinstance(preprocessor, dict) and (
        preprocessor.get("image_mean") is not None or preprocessor.get("do_normalize") is False
    )
    patches_only = "reg_token" in state
    state, fates = _fold_class_position(state, fates) if patches_only else (state, fates)
    num_classes = num_classes_of(state)
    return Converted(
        arch=_sizes(state, config, arch),
        state=state,
        method=kind.method,
        pool=kind.pool,
        num_classes=num_classes,
        classes=_classes(config) if num_classes else (),
        fates=fates,
        positions=PositionRule(antialias=kind.antialias),
        mean=mean,
        std=std,
        guesses=() if is_stated else ("pixels",),
    )


def _sizes(state: dict[str, Tensor], config: dict[str, Any], arch: str | None) -> Arch:
    try:
        heads, eps = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"config.json has no number for {error}") from error
    if config.get("use_swiglu_ffn") and arch is None:
        width = state["cls_token"].shape[-1] if "cls_token" in state else 0
        if width != _GATED_WIDTH:
            raise InputError(
                f"config.json has use_swiglu_ffn for width {width}; gated MLPs are read of DINOv2's "
                f"giant alone, whose width is {_GATED_WIDTH}"
            )
        registers = "_reg4" if "reg_token" in state else ""
        return infer_arch(state, arch=f"vit_giant_patch14{registers}_dinov2")
    found = infer_arch(state, arch=arch, norm_eps=eps)
    if heads < 1 or found.width % heads or not 0 < eps < 1:
        raise InputError(
            f"config.json has {heads} heads for width {found.width} and layer_norm_eps {eps}"
        )
    return dataclasses.replace(found, num_heads=heads)


def _fold_class_position(
    state: dict[str, Tensor], fates: tuple[Fate, ...]
) -> tuple[dict[str, Tensor], tuple[Fate, ...]]:
    """timm's registers stand between [CLS] and the patches: the position of [CLS] is added to it."""
    three = [state.get(name) for name in ("reg_token", "cls_token", "pos_embed")]
    if any(value is None or value.ndim != 3 for value in three):
        raise InputError("the tensors are no DINOv2's: tokens or positions are misshapen")
    positions = state["pos_embed"]
    folded = {
        **state,
        "cls_token": state["cls_token"] + positions[:, :1],
        "pos_embed": positions[:, 1:].contiguous(),
    }
    reasons = {
        "cls_token": "with its position added",
        "pos_embed": "the first row is added to cls_token",
    }
    return folded, tuple(
        dataclasses.replace(fate, reason=reasons.get(fate.target, fate.reason)) for fate in fates
    )


def _classes(config: dict[str, Any]) -> tuple[str, ...]:
    """Names by the head's outputs; none where they are transformers' placeholders."""
    table = config.get("id2label")
    if not isinstance(table, dict) or not all(str(key).isdecimal() for key in table):
        return ()
    if sorted(map(int, table)) != list(range(len(table))):
        # With a gap, or counted from 1, a name's place does not say which output it is of.
        return ()
    names = tuple(str(table[key]) for key in sorted(table, key=int))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def _pixels(preprocessor: Any, kind: _Kind) -> Pixels:
    """Of pixels from 0 to 1, as transformers' image processor with these options makes them."""
    if not isinstance(preprocessor, dict):
        return kind.mean, kind.std
    factor = preprocessor.get("rescale_factor", _RESCALE)
    is_number = isinstance(factor, (int, float)) and math.isclose(factor, _RESCALE, rel_tol=1e-6)
    if not is_number or preprocessor.get("do_rescale") is False:
        raise InputError(
            f"preprocessor_config.json has rescale_factor {factor!r}, do_rescale "
            f"{preprocessor.get('do_rescale', True)!r}; only pixels times 1/255 are read"
        )
    if preprocessor.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if preprocessor.get("image_mean") is None and preprocessor.get("image_std") is None:
        return kind.mean, kind.std
    try:
        if isinstance(preprocessor["image_mean"], str) or isinstance(
            preprocessor["image_std"], str
        ):
            raise InputError(_NUMBERS_NEEDED)
        red, green, blue = map(float, preprocessor["image_mean"])
        of_red, of_green, of_blue = map(float, preprocessor["image_std"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(_NUMBERS_NEEDED) from error
    means, stds = (red, green, blue), (of_red, of_green, of_blue)
    if not all(0 <= mean <= 1 for mean in means) or not all(0 < std <= 1 for std in stds):
        raise InputError(f"{_NUMBERS_NEEDED}, not {list(means)} and {list(stds)}")
    return means, stds
