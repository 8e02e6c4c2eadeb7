"""Statements of a file held against its tensors: taken where something is open, refused otherwise."""

import dataclasses

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import with_heads
from micl_bench.checkpoints._metadata import SIZES, Kind, Statements
from micl_bench.checkpoints._options import Pixels, StatedArch
from micl_bench.runtime.errors import InputError

_BUILT_WITH = ("model_args", "model_kwargs")
_NETWORKS = (*_BUILT_WITH, "config", "model_cfg", "model_config", "vision_config", "args")
"""These tables hold options of the network; others may be of data, whose size may differ."""
_STATED_BY: dict[Kind, str] = {
    "heads": "--arch heads=N",
    "norm_eps": "--arch norm_eps=E",
    "size": "--arch grid=NxN",
    "pixels": "--pixels",
}
"""The option that states each kind for a file whose own statement cannot be used."""


def apply_statements(
    words: Statements, converted: Converted, *, stated: StatedArch, pixels: Pixels | None
) -> Converted:
    """Take heads, epsilon and pixels from the file's own words where they are still open.

    Args:
        stated: the user's words on the architecture, which go before the file's.
        pixels: the user's mean and std of the pixels.

    Raises:
        InputError: the file states a value of the wrong type or range, an input that is not square,
            or what its tensors contradict: heads that do not divide the width, or another size.
    """
    _refuse_unusable(words, stated, pixels)
    arch, size = converted.arch, words.first("size")
    rows, columns = (side // arch.patch_size for side in size or (0, 0))
    # As many patches as a square has may lie in an oblong: 24 x 6 of them are 12 x 12.
    if size and size[0] != size[1] and rows * columns == arch.num_patches:
        raise InputError(
            f"the file states an input of {size[0]} x {size[1]} pixels; only square ones are read"
        )
    if stated.name is None:
        _refuse_contradictions(words, converted, stated)
    if rows == arch.img_size // arch.patch_size:
        converted = converted.settled("grid")
    if "heads" in converted.guesses and (heads := words.first("heads")):
        arch = with_heads(dataclasses.replace(arch, num_heads=heads), arch.num_heads)
        converted = converted.settled("heads")
    if "norm_eps" in converted.guesses and (eps := words.first("norm_eps")):
        arch = dataclasses.replace(arch, norm_eps=eps)
        converted = converted.settled("norm_eps")
    converted = dataclasses.replace(converted, arch=arch)
    found = words.first("pixels") if "pixels" in converted.guesses else None
    return converted.with_pixels(found) if found else converted


def _refuse_unusable(words: Statements, stated: StatedArch, pixels: Pixels | None) -> None:
    by_user = {
        "heads": stated.heads or stated.name,
        "norm_eps": stated.norm_eps or stated.name,
        "size": stated.grid or stated.name,
        "pixels": pixels,
    }
    for one in words.every:
        if one.fault and one.kind in _STATED_BY and not by_user[one.kind]:
            raise InputError(f"{one.fault}; correct it, or state {_STATED_BY[one.kind]}")


def _refuse_contradictions(words: Statements, converted: Converted, stated: StatedArch) -> None:
    """Raise an InputError where the network was not built as these words say."""
    arch, grid = converted.arch, converted.arch.img_size // converted.arch.patch_size
    if stated.heads is None and (heads := next(words.usable("heads"), None)):
        is_open = "heads" in converted.guesses
        # Options that it was built with go before its name.
        is_other = heads.table.endswith(_BUILT_WITH) and heads.value != arch.num_heads
        if arch.width % heads.value if is_open else is_other:
            raise InputError(
                f"{heads.place} is {heads.value}, which does not fit {arch.name} of width "
                f"{arch.width}; usual there: {arch.num_heads}; correct it, or state "
                f"{_STATED_BY['heads']}"
            )
    for one in words.every:
        if one.value is None or one.table.rpartition(".")[2] not in _NETWORKS:
            continue
        if one.kind == "size" and one.key != "input_size" and stated.grid is None:
            if one.value[0] // arch.patch_size != grid:
                raise InputError(
                    f"{one.place} is {one.given!r}, but the positions are of {arch.img_size} pixels; "
                    f"correct it, or state --arch grid={grid}x{grid}"
                )
        # A run's options have widths and depths of other parts too.
        elif one.kind in SIZES and (words.is_folder or one.table.endswith(_BUILT_WITH)):
            wanted = getattr(arch, one.kind)
            if one.value != wanted:
                raise InputError(
                    f"{one.place} is {one.value}, but the tensors have {wanted}; correct it, or give "
                    "the file that belongs to these words"
                )
