"""Statements of a file or folder beside its tensors, which take the place of what would be assumed.

Configurations, options of the run and metadata are tables; null counts as not stated.
"""

import dataclasses
from argparse import Namespace
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta
from torch import Tensor

from micl_bench.checkpoints._options import Pixels
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.allowlist import Settings
from micl_bench.runtime.validate import built, parsed, require_plain
from micl_bench.runtime.values import shown

T = TypeVar("T")

Kind = Literal["heads", "norm_eps", "size", "patch_size", "width", "depth", "pixels"]

Heads = Annotated[int, Meta(ge=1, le=1024, description="a whole number from 1 to 1024")]
Epsilon = Annotated[float, Meta(gt=0, lt=1, description="a number between 0 and 1")]
_Side = Annotated[int, Meta(ge=1)]
_Sides = Annotated[list[_Side], Meta(min_length=2, max_length=3)]


@dataclasses.dataclass(frozen=True)
class _HeightAndWidth:
    height: _Side
    width: _Side


_Size = Annotated[
    _Side | _Sides | _HeightAndWidth, Meta(description="pixels, as 224 or [224, 224]")
]

_TABLES = (
    "config", "args", "hyper_parameters", "hparams", "cfg", "model_args", "model_kwargs", "model_cfg",
    "model_config", "pretrained_cfg", "backbone", "kwargs", "data", "preprocessor_config",
    "vision_config", "opt", "train_args", "encoder",
)  # fmt: skip
"""Trainers and libraries keep their options under these names, at any depth of three."""
SIZES: dict[Kind, tuple[str, ...]] = {
    "patch_size": ("patch_size",),
    "width": ("embed_dim", "hidden_size"),
    "depth": ("depth", "num_hidden_layers"),
}
"""These sizes are in the tensors too."""
_KEYS: dict[Kind, tuple[tuple[str, ...], Any]] = {
    "heads": (("num_heads", "num_attention_heads", "n_heads"), Heads),
    "norm_eps": (("layer_norm_eps", "norm_eps", "layer_norm_epsilon"), Epsilon),
    "size": (("img_size", "image_size", "input_size"), _Size),
    **{kind: (keys, int) for kind, keys in SIZES.items()},
}
"""Each kind of statement has several keys and one type."""
_MEANS = (("mean", "std"), ("image_mean", "image_std"), ("pixel_mean", "pixel_std"))
_NAMES = ("architecture", "arch", "model", "model_name", "name")
_DEEPEST = 3
_LONGEST_NAME, _LONGEST_TEXT = 200, 1 << 16
# Options of timm's training script, which takes mean and std of its model where they are None.
_TIMM_SCRIPT = {"crop_pct", "interpolation", "mean", "std", "model"}
_PIXELS_NEEDED = (
    "three numbers each for mean (from 0 to 1) and std (above 0, at most 1), or up to 255"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """One statement."""

    kind: Kind
    table: str
    """The dotted name of its table; empty for the file itself."""
    key: str
    place: str
    """Its place in words: `config.json: model_args.img_size` or `args.img_size`."""
    given: Any
    value: Any = None
    """The value in our terms; None where it cannot be used."""
    fault: str = ""
    """One line that says why it cannot be used."""


@dataclasses.dataclass(frozen=True)
class Statements:
    """All statements of a file or folder, in the order of the tables."""

    every: tuple[Said, ...]
    names: tuple[str, ...]
    """The names that it gives to models."""
    timm_script: bool
    """The options are those of timm's own training script."""
    is_folder: bool
    """The tables are the files of a folder."""

    def first(self, kind: Kind) -> Any:
        """Return the first value of that kind that can be used, or None."""
        return next((one.value for one in self.usable(kind)), None)

    def usable(self, kind: Kind) -> Iterator[Said]:
        """Yield the statements of that kind that can be used."""
        return (one for one in self.every if one.kind == kind and one.value is not None)


def statements_of(content: dict[str, Any], *, is_folder: bool = False) -> Statements:
    """Return the statements in those tables of a file that hold no tensors.

    Args:
        is_folder: `content` is of a folder, whose files are its tables.
    """
    tables = list(_tables(content, ""))
    names = [
        table[key]
        for _, table in tables
        for key in _NAMES
        if isinstance(table.get(key), str) and 0 < len(table[key]) <= _LONGEST_NAME
    ]
    return Statements(
        every=tuple(one for name, table in tables for one in _said(name, table, is_folder)),
        names=tuple(dict.fromkeys(name for name in names if "${" not in name)),
        timm_script=any(table.keys() >= _TIMM_SCRIPT for _, table in tables),
        is_folder=is_folder,
    )


def options_of(content: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a table of options: a dictionary, a Namespace, or JSON; empty for anything else."""
    value = content.get(key)
    if isinstance(value, Settings):
        value = value.plain
    if isinstance(value, Namespace):
        return vars(value)
    if isinstance(value, str) and value.lstrip()[:1] == "{" and len(value) < _LONGEST_TEXT:
        try:
            value = parsed(value)
        except InputError:
            return {}
    return {str(name): one for name, one in value.items()} if isinstance(value, dict) else {}


def declared_part(kind: type[T], table: dict[str, Any], place: str) -> T:
    """Make a dataclass of those keys of a table that it declares; the table may hold more.

    Args:
        place: path of the table, for messages.

    Raises:
        InputError: a value is not as declared, or nothing that JSON can hold.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    own = {name: table[name] for name in names if name in table}
    require_plain(own, place)
    return built(kind, own, place)


def _tables(table: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield name, table
    for key in _TABLES if name.count(".") < _DEEPEST - 1 or not name else ():
        inner = options_of(table, key)
        # A network may be called `encoder` or `backbone` too.
        if inner and not any(isinstance(value, Tensor) for value in inner.values()):
            yield from _tables(inner, f"{name}.{key}".lstrip("."))


def _said(name: str, table: dict[str, Any], is_folder: bool) -> Iterator[Said]:
    for kind, (keys, hint) in _KEYS.items():
        for key in keys:
            if (given := table.get(key)) is None or _is_reference(given):
                continue
            place = _place(name, key, is_folder)
            found: dict[str, Any]
            try:
                value = built(hint, given, place)
                found = {"value": _height_and_width(value) if kind == "size" else value}
            except InputError as error:
                found = {"fault": str(error)}
            yield Said(kind=kind, table=name, key=key, place=place, given=given, **found)
    for names in _MEANS:
        yield from _said_of_pixels(name, table, names, is_folder)


def _said_of_pixels(
    name: str, table: dict[str, Any], names: tuple[str, str], is_folder: bool
) -> Iterator[Said]:
    found = {key: table[key] for key in names if table.get(key) is not None}
    if not found or any(map(_is_reference, found.values())):
        return
    three = [_three(found.get(key)) for key in names]
    pixels = _pixels(*three)
    # Among a run's options, `std` alone, or one number, is of other things than pixels.
    is_meant = name.startswith(("config", "preprocessor_config")) or all(
        isinstance(found.get(key), list | tuple) for key in names
    )
    if not pixels and not is_meant:
        return
    # The one that is no three numbers, or else that of the wrong range.
    wrong = names[0] if three[0] is None else names[1]
    place, given = _place(name, wrong, is_folder), found.get(wrong)
    fault = "" if pixels else f"{place} is {shown(given)}; needed: {_PIXELS_NEEDED}"
    yield Said(
        kind="pixels", table=name, key=wrong, place=place, given=given, value=pixels, fault=fault
    )


def _place(table: str, key: str, is_folder: bool) -> str:
    place = f"{table}.{key}".lstrip(".")
    top, _, rest = place.partition(".")
    return f"{top}.json: {rest}" if is_folder and rest else place


def _is_reference(value: Any) -> bool:
    """Say whether a value is a reference to another one, as `${model.heads}`."""
    return isinstance(value, str) and "${" in value


def _height_and_width(size: int | list[int] | _HeightAndWidth) -> tuple[int, int]:
    if isinstance(size, _HeightAndWidth):
        return size.height, size.width
    # Channels may stand in front.
    return (size, size) if isinstance(size, int) else (size[-2], size[-1])


def _three(value: Any) -> tuple[float, float, float] | None:
    try:
        return built(tuple[float, float, float], value)
    except InputError:
        return None


def _pixels(
    mean: tuple[float, float, float] | None, std: tuple[float, float, float] | None
) -> Pixels | None:
    """Return pixels from 0 to 1; numbers above 2 are taken for counted to 255. None out of range."""
    if mean is None or std is None:
        return None
    scale = 255.0 if max(*mean, *std) > 2 else 1.0
    pixels = tuple(tuple(one / scale for one in values) for values in (mean, std))
    is_usable = all(0 <= one <= 1 for one in pixels[0]) and all(0 < one <= 1 for one in pixels[1])
    return pixels if is_usable else None  # type: ignore[return-value]
