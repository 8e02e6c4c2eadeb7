"""Folders of Hugging Face's transformers: `config.json` beside the weights."""

import dataclasses
import re
from typing import Annotated, Any

from msgspec import Meta

from micl_bench.backbone import Pool, PositionRule
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._metadata import Epsilon, Heads, declared_part, options_of
from micl_bench.checkpoints._network import Network, convert_network
from micl_bench.checkpoints._options import IMAGENET, INCEPTION, Pixels
from micl_bench.checkpoints._rules import Rule, drop, keep, merge
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
    """The differences between transformers' models."""

    method: str = ""
    pool: Pool = "token"
    antialias: bool = False
    pixels: Pixels = IMAGENET
    """Mean and std of a folder without `preprocessor_config.json`."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    """The keys of config.json that are read."""

    num_attention_heads: Heads
    layer_norm_eps: Epsilon
    hidden_size: int | None = None
    hidden_act: str = "gelu"
    use_swiglu_ffn: bool = False


_Mean = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
_Std = Annotated[float, Meta(gt=0, le=1, description="a number above 0, at most 1")]
_THREE = Meta(description="three numbers")
_Rescale = Annotated[
    float,
    Meta(
        ge=_RESCALE * (1 - 1e-6),
        le=_RESCALE * (1 + 1e-6),
        description="1/255: only pixels times 1/255 are read",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Preprocessor:
    """The keys of preprocessor_config.json that are read."""

    rescale_factor: _Rescale = _RESCALE
    do_rescale: bool | None = None
    do_normalize: bool | None = None
    image_mean: Annotated[tuple[_Mean, _Mean, _Mean], _THREE] | None = None
    image_std: Annotated[tuple[_Std, _Std, _Std], _THREE] | None = None

    def __post_init__(self) -> None:
        if self.do_rescale is False:
            raise InputError("do_rescale is false; only pixels times 1/255 are read")
        if (self.image_mean is None) != (self.image_std is None):
            raise InputError("image_mean and image_std need three numbers each, or neither")


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there is a table `config` with a `model_type` beside the tensors."""
    config = content.get("config")
    return isinstance(config, dict) and "model_type" in config and "model" in content


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert to timm's names; heads, norms' epsilon and classes come from the configuration.

    Positions are interpolated as by transformers' `interpolate_pos_encoding`.

    Raises:
        InputError: a model type or an option is not read, or pixels cannot be prepared as
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
    read = declared_part(_Config, _without_nulls(config), "config.json: $")
    if read.hidden_act != "gelu":
        raise InputError(f"config.json: hidden_act is {read.hidden_act!r}; timm's ViTs have gelu")
    named = _named(read, str(config["model_type"]))
    stated = _pixels(options_of(content, "preprocessor_config"))
    converted = convert_network(
        content,
        (*_RULES, kind.head),
        [Network("", "model", r"((vit|ijepa|dinov2|dinov2_with_registers)\.)?")],
        layout="huggingface",
        arch=arch,
        branch=branch,
        known_arch=lambda state: named,
        norm_eps=read.layer_norm_eps,
        folds_class_position=True,
        method=kind.method,
        pool=kind.pool,
        positions=PositionRule(antialias=kind.antialias),
    )
    mean, std = stated or kind.pixels
    return dataclasses.replace(
        converted,
        classes=_classes(config.get("id2label")) if converted.num_classes else (),
        mean=mean,
        std=std,
        guesses=() if stated else ("pixels",),
    )


def _without_nulls(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _named(config: _Config, model_type: str) -> str:
    """Return the architecture as `--arch` would state it."""
    if not config.use_swiglu_ffn:
        return f"heads={config.num_attention_heads}"
    if config.hidden_size != _GATED_WIDTH:
        raise InputError(
            f"config.json has use_swiglu_ffn for width {config.hidden_size}; gated MLPs are read of "
            f"DINOv2's giant alone, whose width is {_GATED_WIDTH}"
        )
    registers = "_reg4" if model_type == "dinov2_with_registers" else ""
    return f"vit_giant_patch14{registers}_dinov2"


def _classes(table: Any) -> tuple[str, ...]:
    """Return names in the order of the head's outputs; none for transformers' placeholders."""
    if not isinstance(table, dict) or not all(str(key).isdecimal() for key in table):
        return ()
    if sorted(map(int, table)) != list(range(len(table))):
        # With a gap, or counted from 1, a name's place does not say which output it is of.
        return ()
    names = tuple(str(table[key]) for key in sorted(table, key=int))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def _pixels(table: dict[str, Any]) -> Pixels | None:
    """Return mean and std as transformers' image processor with these options uses them, or None."""
    read = declared_part(_Preprocessor, table, "preprocessor_config.json: $")
    if read.do_normalize is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return (read.image_mean, read.image_std) if read.image_mean and read.image_std else None
