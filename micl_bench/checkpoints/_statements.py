"""What a file or folder states beside its tensors, which takes the place of what would be assumed.

Configurations, options of the run and metadata are tables; null counts as not stated.
"""

import dataclasses
import math
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any, Literal

from torch import Tensor

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import with_heads
from micl_bench.checkpoints._told import Pixels, Told
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.allowlist import Settings
from micl_bench.runtime.validate import parsed

Kind = Literal["heads", "norm_eps", "size", "patch_size", "width", "depth", "pixels"]

_TABLES = (
    "config", "args", "hyper_parameters", "hparams", "cfg", "model_args", "model_kwargs", "model_cfg",
    "model_config", "pretrained_cfg", "backbone", "kwargs", "data", "preprocessor_config",
    "vision_config", "opt", "train_args", "encoder",
)  # fmt: skip
"""Names under which trainers and libraries keep what they were called with, at any depth of three."""
_BUILT_WITH = ("model_args", "model_kwargs")
_NETWORKS = (*_BUILT_WITH, "config", "model_cfg", "model_config", "vision_config", "args")
"""Those of what a network was built with: not of the data, whose size may be another."""
_MEANS = (("mean", "std"), ("image_mean", "image_std"), ("pixel_mean", "pixel_std"))
_NAMES = ("architecture", "arch", "model", "model_name", "name")
_DEEPEST = 3
_LONGEST_NAME, _LONGEST_TEXT = 200, 1 << 16
# Options of timm's training script, which takes mean and std of its model where they are None.
_TIMM_SCRIPT = {"crop_pct", "interpolation", "mean", "std", "model"}
_PIXELS_NEEDED = (
    "three numbers each for mean (from 0 to 1) and std (above 0, at most 1), or up to 255"
)
_STATED_BY = {
    "heads": "--arch heads=N",
    "norm_eps": "--arch norm_eps=E",
    "size": "--arch grid=NxN",
    "pixels": "--pixels",
}


@dataclasses.dataclass(frozen=True)
class Said:
    """One statement."""

    kind: Kind
    table: str
    """Where it stands, dotted; empty for the file itself."""
    key: str
    given: Any
    value: Any
    """What it means; None where it is no value of its kind, and cannot be used."""
    needed: str
    """What is needed there, in words; empty where other values are no fault."""

    def place(self, is_folder: bool) -> str:
        """`config.json: model_args.img_size` of a folder, `args.img_size` of a file."""
        place = f"{self.table}.{self.key}".lstrip(".")
        top, _, rest = place.partition(".")
        return f"{top}.json: {rest}" if is_folder and rest else place


@dataclasses.dataclass(frozen=True)
class Statements:
    """All that is stated, in the order of the tables."""

    said: tuple[Said, ...]
    names: tuple[str, ...]
    """Of models, as the file calls them."""
    timm_script: bool
    """The options are those of timm's own training script."""

    def first(self, kind: Kind) -> Any:
        """The first of that kind that can be used, or None."""
        return next((one.value for one in self._usable(kind)), None)

    def _usable(self, kind: Kind) -> Iterator[Said]:
        return (one for one in self.said if one.kind == kind and one.value is not None)

    def applied(
        self, converted: Converted, *, told: Told, pixels: Pixels | None, is_folder: bool
    ) -> Converted:
        """Heads, epsilon and pixels as the file's own words have them, where they are still open.

        Args:
            told: what the user states of the architecture, which goes before the file's words.
            pixels: the same of the pixels.
            is_folder: the tables are the files of a folder.

        Raises:
            InputError: it states what is no value, or what its tensors contradict: heads that do not
                divide the width, another input or another size; or an input that is not square.
        """
        self._refuse_unusable(told, pixels, is_folder)
        arch, size = converted.arch, self.first("size")
        rows, columns = (side // arch.patch_size for side in size or (0, 0))
        # As many patches as a square has may lie in an oblong: 24 x 6 of them are 12 x 12.
        if size and size[0] != size[1] and rows * columns == arch.num_patches:
            raise InputError(
                f"the file states an input of {size[0]} x {size[1]} pixels; only square ones are read"
            )
        if told.name is None:
            self._refuse_contradictions(converted, told, is_folder)
        if rows == arch.img_size // arch.patch_size:
            converted = converted.settled("grid")
        if "heads" in converted.guesses and (heads := self.first("heads")):
            arch = with_heads(dataclasses.replace(arch, num_heads=heads), arch.num_heads)
            converted = converted.settled("heads")
        if "norm_eps" in converted.guesses and (eps := self.first("norm_eps")):
            arch = dataclasses.replace(arch, norm_eps=eps)
            converted = converted.settled("norm_eps")
        converted = dataclasses.replace(converted, arch=arch)
        stated = self.first("pixels") if "pixels" in converted.guesses else None
        return converted.with_pixels(stated) if stated else converted

    def _refuse_unusable(self, told: Told, pixels: Pixels | None, is_folder: bool) -> None:
        by_user = {
            "heads": told.heads or told.name,
            "norm_eps": told.norm_eps or told.name,
            "size": told.grid or told.name,
            "pixels": pixels,
        }
        for one in self.said:
            if one.value is None and one.needed and not by_user[one.kind]:
                raise InputError(
                    f"{one.place(is_folder)} is {one.given!r:.80}; needed: {one.needed}; correct it, or "
                    f"state {_STATED_BY[one.kind]}"
                )

    def _refuse_contradictions(self, converted: Converted, told: Told, is_folder: bool) -> None:
        """The network was not built as these words say."""
        arch, grid = converted.arch, converted.arch.img_size // converted.arch.patch_size
        if told.heads is None and (heads := next(self._usable("heads"), None)):
            is_open = "heads" in converted.guesses
            # Of a named network too: what it was built with goes before what its name says.
            is_other = heads.table.endswith(_BUILT_WITH) and heads.value != arch.num_heads
            if arch.width % heads.value if is_open else is_other:
                raise InputError(
                    f"{heads.place(is_folder)} is {heads.value}, which does not fit {arch.name} of "
                    f"width {arch.width}; usual there: {arch.num_heads}; correct it, or state "
                    f"{_STATED_BY['heads']}"
                )
        for one in self.said:
            if one.value is None or one.table.rpartition(".")[2] not in _NETWORKS:
                continue
            if one.kind == "size" and one.key != "input_size" and told.grid is None:
                if one.value[0] // arch.patch_size != grid:
                    raise InputError(
                        f"{one.place(is_folder)} is {one.given!r}, but the positions are of "
                        f"{arch.img_size} pixels; correct it, or state --arch grid={grid}x{grid}"
                    )
            # A run's options have widths and depths of other parts too.
            elif one.kind in _SIZES and (is_folder or one.table.endswith(_BUILT_WITH)):
                wanted = getattr(arch, one.kind)
                if one.value != wanted:
                    raise InputError(
                        f"{one.place(is_folder)} is {one.value}, but the tensors have {wanted}; correct "
                        "it, or give the file that belongs to these words"
                    )


def statements_of(content: dict[str, Any]) -> Statements:
    """Look through the tables of a file that hold no tensors."""
    tables = list(_tables(content, ""))
    names = [
        table[key]
        for _, table in tables
        for key in _NAMES
        if isinstance(table.get(key), str) and 0 < len(table[key]) <= _LONGEST_NAME
    ]
    return Statements(
        said=tuple(one for place, table in tables for one in _said(place, table)),
        names=tuple(dict.fromkeys(name for name in names if "${" not in name)),
        timm_script=any(table.keys() >= _TIMM_SCRIPT for _, table in tables),
    )


def options_of(content: dict[str, Any], key: str) -> dict[str, Any]:
    """One table of options: a dictionary, a Namespace, or JSON; empty for anything else."""
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


def pixels_in(
    table: dict[str, Any], names: tuple[str, str], *, largest: float = 255.0
) -> Pixels | None:
    """Mean and std under these names; None where they are not three numbers each, or out of range.

    Args:
        largest: number that a pixel may be counted to; those above 2 are taken for counted to 255.
    """
    mean, std = (_three(table.get(name)) for name in names)
    if mean is None or std is None:
        return None
    scale = 255.0 if largest > 1 and max(*mean, *std) > 2 else 1.0
    pixels = (tuple(one / scale for one in mean), tuple(one / scale for one in std))
    is_usable = all(0 <= one <= 1 for one in pixels[0]) and all(0 < one <= 1 for one in pixels[1])
    return pixels if is_usable else None  # type: ignore[return-value]


def _tables(table: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, table
    for key in _TABLES if place.count(".") < _DEEPEST - 1 or not place else ():
        inner = options_of(table, key)
        # A network may be called `encoder` or `backbone` too.
        if inner and not any(isinstance(value, Tensor) for value in inner.values()):
            yield from _tables(inner, f"{place}.{key}".lstrip("."))


def _said(place: str, table: dict[str, Any]) -> Iterator[Said]:
    for kind, (keys, read, needed) in _READERS.items():
        for key in keys:
            if (given := table.get(key)) is not None and not _is_reference(given):
                yield Said(kind, place, key, given, read(given), needed)
    for names in _MEANS:
        found = {name: table[name] for name in names if table.get(name) is not None}
        if not found or any(map(_is_reference, found.values())):
            continue
        pixels = pixels_in(found, names)
        # Among a run's options, `std` alone, or one number, is of other things than pixels.
        is_meant = place.startswith(("config", "preprocessor_config")) or all(
            isinstance(found.get(name), (list, tuple)) for name in names
        )
        # Of two that are numbers, that of the wrong range; of others, the first.
        wrong = next((name for name in names if _three(found.get(name)) is None), names[1])
        if pixels or is_meant:
            yield Said("pixels", place, wrong, found.get(wrong), pixels, _PIXELS_NEEDED)


def _is_reference(value: Any) -> bool:
    """To another value, as `${model.heads}`."""
    return isinstance(value, str) and "${" in value


def _heads(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= 1024 else None


def _epsilon(value: Any) -> float | None:
    return value if type(value) is float and 0 < value < 1 else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _sides(value: Any) -> tuple[int, int] | None:
    """Height and width of an input."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    sides = value[-2:] if isinstance(value, (list, tuple)) and len(value) in (2, 3) else [value] * 2
    return tuple(sides) if all(type(side) is int and side > 0 for side in sides) else None


def _three(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return None
    if not all(type(one) in (int, float) and math.isfinite(one) for one in value):
        return None
    return tuple(map(float, value))


_SIZES: dict[Kind, tuple[tuple[str, ...], Callable[[Any], Any], str]] = {
    "patch_size": (("patch_size",), _whole, ""),
    "width": (("embed_dim", "hidden_size"), _whole, ""),
    "depth": (("depth", "num_hidden_layers"), _whole, ""),
}
_READERS: dict[Kind, tuple[tuple[str, ...], Callable[[Any], Any], str]] = {
    "heads": (("num_heads", "num_attention_heads", "n_heads"), _heads, "a whole number from 1 to 1024"),
    "norm_eps": (
        ("layer_norm_eps", "norm_eps", "layer_norm_epsilon"), _epsilon, "a number between 0 and 1"
    ),
    "size": (("img_size", "image_size", "input_size"), _sides, "pixels, as 224 or [224, 224]"),
    **_SIZES,
}  # fmt: skip
