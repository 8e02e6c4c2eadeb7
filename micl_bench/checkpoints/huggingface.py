"""Folders of Hugging Face's transformers: `config.json` beside the weights."""

import dataclasses
import math
import re
from typing import Any

from micl_bench.backbone import Pool, PositionRule
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._network import Network, convert_network
from micl_bench.checkpoints._rules import Rule, drop, keep, merge
from micl_bench.checkpoints._statements import options_of, pixels_in
from micl_bench.checkpoints._told import IMAGENET, INCEPTION, Pixels
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
_HEAD = keep(rf"classifier\.{_END}", r"head.\1")
_NO_HEAD = drop(r"classifier\..+", "head on [CLS] and the patches' mean together; timm's has none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
    """What differs between transformers' models."""

    method: str = ""
    pool: Pool = "token"
    antialias: bool = False
    pixels: Pixels = IMAGENET
    """Where the folder has no `preprocessor_config.json`."""
    head: Rule = _HEAD


_KINDS = {
    # Without a file that says more, as transformers' own image processor for it: -1 to 1.
    "vit": _Kind(pixels=INCEPTION),
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
        InputError: a model type or an option that is not read, pixels that cannot be prepared as
            `preprocessor_config.json` says.
    """
    if not recognise(content):
        raise InputError("not a folder of transformers: config.json has no model_type")
    config = content["config"]
    kind = _KINDS.get(str(config["model_type"]))
    if kind is None:
        raise InputError(
            f"a folder of model type {config['model_type']!r}; read are {', '.join(_KINDS)}"
        )
    if config.get("hidden_act", "gelu") != "gelu":
        raise InputError(f"hidden_act is {config['hidden_act']!r}; timm's ViTs have gelu")
    named, eps = _named(config)
    stated = _pixels(options_of(content, "preprocessor_config"))
    converted = convert_network(
        content,
        (*_RULES, kind.head),
        [Network("", "model", r"((vit|ijepa|dinov2|dinov2_with_registers)\.)?")],
        layout="huggingface",
        arch=arch,
        branch=branch,
        told=lambda state: named,
        norm_eps=eps,
        folds_class_position=True,
        method=kind.method,
        pool=kind.pool,
        positions=PositionRule(antialias=kind.antialias),
    )
    mean, std = stated or kind.pixels
    return dataclasses.replace(
        converted,
        classes=_classes(config) if converted.num_classes else (),
        mean=mean,
        std=std,
        guesses=() if stated else ("pixels",),
    )


def _named(config: dict[str, Any]) -> tuple[str, float]:
    """The architecture, as `--arch` would state it, and the epsilon of the norms."""
    try:
        heads, eps = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
        width = config.get("hidden_size")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"config.json has no number for {error}") from error
    if not (0 < heads <= 1024 and 0 < eps < 1):
        raise InputError(f"config.json has {heads} heads and layer_norm_eps {eps}")
    if not config.get("use_swiglu_ffn"):
        return f"heads={heads}", eps
    if width != _GATED_WIDTH:
        raise InputError(
            f"config.json has use_swiglu_ffn for width {width}; gated MLPs are read of DINOv2's "
            f"giant alone, whose width is {_GATED_WIDTH}"
        )
    registers = "_reg4" if config["model_type"] == "dinov2_with_registers" else ""
    return f"vit_giant_patch14{registers}_dinov2", eps


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


def _pixels(preprocessor: dict[str, Any]) -> Pixels | None:
    """Of pixels from 0 to 1, as transformers' image processor with these options makes them."""
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
        return None
    pixels = pixels_in(preprocessor, ("image_mean", "image_std"), largest=1)
    if pixels is None:
        given = [preprocessor.get(name) for name in ("image_mean", "image_std")]
        raise InputError(
            "preprocessor_config.json needs three numbers each for image_mean (0 to 1) and image_std "
            f"(above 0, at most 1), not {given[0]!r:.40} and {given[1]!r:.40}"
        )
    return pixels
