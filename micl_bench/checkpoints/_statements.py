"""What a file or folder states beside its tensors: configurations, options of the run, metadata."""

import dataclasses
import json
import math
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from micl_bench.checkpoints._stand_ins import Settings
from micl_bench.checkpoints._told import Pixels
from micl_bench.errors import InputError

_TABLES = (
    "config", "args", "hyper_parameters", "hparams", "cfg", "model_args", "model_kwargs", "model_cfg",
    "model_config", "pretrained_cfg", "backbone", "kwargs", "data", "preprocessor_config",
    "vision_config", "opt", "train_args", "encoder",
)  # fmt: skip
"""Names under which trainers and libraries keep what they were called with, at any depth of three."""
_HEADS = ("num_heads", "num_attention_heads", "n_heads")
_EPS = ("layer_norm_eps", "norm_eps", "layer_norm_epsilon")
_MEAN = (("mean", "std"), ("image_mean", "image_std"), ("pixel_mean", "pixel_std"))
_SIZE = ("img_size", "image_size", "input_size")
_NAMES = ("architecture", "arch", "model", "model_name", "name")
_DEEPEST = 3
_LONGEST_TEXT = 1 << 16
# Options of timm's training script, which takes mean and std of its model where they are None.
_TIMM_SCRIPT = {"crop_pct", "interpolation", "mean", "std", "model"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statements:
    """The first of each that was found; None, or empty, where nothing says so."""

    heads: int | None = None
    norm_eps: float | None = None
    pixels: Pixels | None = None
    size: tuple[int, int] | None = None
    """Height and width of the input."""
    names: tuple[str, ...] = ()
    """Of models, as the file calls them."""
    timm_script: bool = False
    """The options are those of timm's own training script."""


def statements_of(content: dict[str, Any]) -> Statements:
    """Look through the tables of a file that hold no tensors.

    Raises:
        InputError: a mean or std that no pixels have.
    """
    tables = list(_tables(content, 0))
    names = [str(table[key]) for table in tables for key in _NAMES if _is_text(table.get(key))]
    return Statements(
        heads=_first(tables, _HEADS, _whole),
        norm_eps=_first(tables, _EPS, _fraction),
        pixels=_pixels(tables),
        size=_first(tables, _SIZE, _sides),
        names=tuple(dict.fromkeys(names)),
        timm_script=any(table.keys() >= _TIMM_SCRIPT for table in tables),
    )


def options_of(content: dict[str, Any], key: str) -> dict[str, Any]:
    """One table of options: a dictionary, a Namespace, or JSON; empty for anything else."""
    return _as_table(content.get(key))


def _tables(table: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    yield table
    for key in _TABLES if depth < _DEEPEST else ():
        inner = _as_table(table.get(key))
        # A network may be called `encoder` or `backbone` too.
        if inner and not any(isinstance(value, Tensor) for value in inner.values()):
            yield from _tables(inner, depth + 1)


def _as_table(value: Any) -> dict[str, Any]:
    if isinstance(value, Settings):
        value = value.plain
    if isinstance(value, Namespace):
        return vars(value)
    if isinstance(value, str) and value.lstrip()[:1] == "{" and len(value) < _LONGEST_TEXT:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}


def _first(tables: list[dict[str, Any]], keys: tuple[str, ...], read: Any) -> Any:
    for table in tables:
        for key in keys:
            if key in table and (found := read(table[key])) is not None:
                return found
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= 1024 else None


def _fraction(value: Any) -> float | None:
    return float(value) if type(value) is float and 0 < value < 1 else None


def _sides(value: Any) -> tuple[int, int] | None:
    if type(value) is int and value > 0:
        return value, value
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    if isinstance(value, (list, tuple)) and len(value) in (2, 3):
        rows, columns = value[-2:]
        if type(rows) is int and type(columns) is int and min(rows, columns) > 0:
            return rows, columns
    return None


def _pixels(tables: list[dict[str, Any]]) -> Pixels | None:
    for table in tables:
        for names in _MEAN:
            mean, std = (_three(table.get(name)) for name in names)
            if mean is None or std is None:
                continue
            # Some count pixels from 0 to 255.
            scale = 255.0 if max(*mean, *std) > 2 else 1.0
            pixels = (tuple(one / scale for one in mean), tuple(one / scale for one in std))
            if not all(0 <= one <= 1 for one in pixels[0]) or not all(
                0 < one <= 1 for one in pixels[1]
            ):
                raise InputError(
                    f"the file states mean {list(mean)} and std {list(std)} of the pixels; needed are "
                    "three numbers each, from 0 to 1 and above 0; --pixels states others"
                )
            return pixels  # type: ignore[return-value]
    return None


def _three(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return None
    if not all(type(one) in (int, float) and math.isfinite(one) for one in value):
        return None
    return tuple(map(float, value))
