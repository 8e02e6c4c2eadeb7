"""What a file or folder states beside its tensors: configurations, options of the run, metadata."""

import dataclasses
import json
import math
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor

from micl_bench.checkpoints._told import Pixels
from micl_bench.runtime.safe_reading.allowlist import Settings

_TABLES = (
    "config", "args", "hyper_parameters", "hparams", "cfg", "model_args", "model_kwargs", "model_cfg",
    "model_config", "pretrained_cfg", "backbone", "kwargs", "data", "preprocessor_config",
    "vision_config", "opt", "train_args", "encoder",
)  # fmt: skip
"""Names under which trainers and libraries keep what they were called with, at any depth of three."""
_NETWORKS = (
    "config",
    "model_args",
    "model_kwargs",
    "model_cfg",
    "model_config",
    "vision_config",
    "args",
)
"""Those of what a network was built with: not of the data, whose size may be another."""
_HEADS = ("num_heads", "num_attention_heads", "n_heads")
_EPS = ("layer_norm_eps", "norm_eps", "layer_norm_epsilon")
_MEAN = (("mean", "std"), ("image_mean", "image_std"), ("pixel_mean", "pixel_std"))
_SIZE = ("img_size", "image_size", "input_size")
_NAMES = ("architecture", "arch", "model", "model_name", "name")
_DEEPEST = 3
_LONGEST_TEXT = 1 << 16
# Options of timm's training script, which takes mean and std of its model where they are None.
_TIMM_SCRIPT = {"crop_pct", "interpolation", "mean", "std", "model"}


Kind = Literal["heads", "norm_eps", "pixels", "size"]


@dataclasses.dataclass(frozen=True)
class Fault:
    """A statement that is no value of its kind."""

    kind: Kind
    key: str
    """Dotted, from the outermost table."""
    value: Any
    needed: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statements:
    """The first of each that was found; None, or empty, where nothing says so."""

    heads: int | None = None
    heads_key: str = ""
    """Where that stands, dotted."""
    norm_eps: float | None = None
    pixels: Pixels | None = None
    size: tuple[int, int] | None = None
    """Height and width of the input."""
    names: tuple[str, ...] = ()
    """Of models, as the file calls them."""
    timm_script: bool = False
    """The options are those of timm's own training script."""
    faults: tuple[Fault, ...] = ()
    """Statements that are there, and cannot be used."""
    networks: tuple[tuple[str, dict[str, Any]], ...] = ()
    """What networks were built with, and where it stands."""


def statements_of(content: dict[str, Any]) -> Statements:
    """Look through the tables of a file that hold no tensors; what is null counts as not stated."""
    found = [(place, _settled(table)) for place, table in _tables(content, "")]
    tables = [table for _, table in found]
    names = [str(table[key]) for table in tables for key in _NAMES if _is_text(table.get(key))]
    return Statements(
        heads_key=next(
            (
                f"{place}.{key}".lstrip(".")
                for place, table in found
                for key in _HEADS
                if _whole(table.get(key))
            ),
            "",
        ),
        heads=_first(tables, _HEADS, _whole),
        norm_eps=_first(tables, _EPS, _fraction),
        pixels=next(filter(None, map(_pixels, tables)), None),
        size=_first(tables, _SIZE, _sides),
        names=tuple(dict.fromkeys(names)),
        timm_script=any(map(_is_timm_script, (table for _, table in _tables(content, "")))),
        faults=tuple(fault for place, table in found for fault in _faults(place, table)),
        networks=tuple(
            (place, table)
            for place, table in found
            if place.rpartition(".")[2] in _NETWORKS and not _is_timm_script(table)
        ),
    )


def sides_of(value: Any) -> tuple[int, int] | None:
    """Height and width of an input or a patch; None for what is none."""
    return _sides(value)


def options_of(content: dict[str, Any], key: str) -> dict[str, Any]:
    """One table of options: a dictionary, a Namespace, or JSON; empty for anything else."""
    return _as_table(content.get(key))


def _tables(table: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, table
    for key in _TABLES if place.count(".") < _DEEPEST - 1 or not place else ():
        inner = _as_table(table.get(key))
        # A network may be called `encoder` or `backbone` too.
        if inner and not any(isinstance(value, Tensor) for value in inner.values()):
            yield from _tables(inner, f"{place}.{key}".lstrip("."))


def _settled(table: dict[str, Any]) -> dict[str, Any]:
    """Without nulls, and without what refers to another value (`${model.heads}`)."""
    return {
        key: value
        for key, value in table.items()
        if value is not None and not (isinstance(value, str) and "${" in value)
    }


def _is_timm_script(table: dict[str, Any]) -> bool:
    return table.keys() >= _TIMM_SCRIPT


def _faults(place: str, table: dict[str, Any]) -> Iterator[Fault]:
    readers: tuple[tuple[Kind, tuple[str, ...], Any, str], ...] = (
        ("heads", _HEADS, _whole, "a whole number from 1 to 1024"),
        ("norm_eps", _EPS, _fraction, "a number between 0 and 1"),
        ("size", _SIZE, _sides, "pixels, as 224 or [224, 224]"),
    )
    for kind, keys, read, needed in readers:
        for key in keys:
            if key in table and read(table[key]) is None:
                yield Fault(kind, f"{place}.{key}".lstrip("."), table[key], needed)
    for names in _MEAN:
        # Among a run's options, `std` alone, or one number, is of other things than pixels.
        is_asked = place.startswith(("config", "preprocessor_config")) or all(
            isinstance(table.get(name), (list, tuple)) for name in names
        )
        if not is_asked or not table.keys() & set(names) or _pixels_of(table, names):
            continue
        # Of two that are numbers, that of the wrong range; of others, the first.
        wrong = next((name for name in names if _three(table.get(name)) is None), names[1])
        key = f"{place}.{wrong}".lstrip(".")
        needed = (
            "three numbers each for mean (from 0 to 1) and std (above 0, at most 1), or up to 255"
        )
        yield Fault("pixels", key, table.get(wrong), needed)


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


def _pixels(table: dict[str, Any]) -> Pixels | None:
    return next(filter(None, (_pixels_of(table, names) for names in _MEAN)), None)


def _pixels_of(table: dict[str, Any], names: tuple[str, str]) -> Pixels | None:
    mean, std = (_three(table.get(name)) for name in names)
    if mean is None or std is None:
        return None
    # Some count pixels from 0 to 255.
    scale = 255.0 if max(*mean, *std) > 2 else 1.0
    pixels = (tuple(one / scale for one in mean), tuple(one / scale for one in std))
    is_usable = all(0 <= one <= 1 for one in pixels[0]) and all(0 < one <= 1 for one in pixels[1])
    return pixels if is_usable else None  # type: ignore[return-value]


def _three(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return None
    if not all(type(one) in (int, float) and math.isfinite(one) for one in value):
        return None
    return tuple(map(float, value))
