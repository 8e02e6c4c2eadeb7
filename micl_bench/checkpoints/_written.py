"""What a file states takes the place of what would be assumed."""

import dataclasses
from typing import Any

from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._infer import with_heads
from micl_bench.checkpoints._statements import Statements, sides_of, statements_of
from micl_bench.checkpoints._told import Pixels, Told
from micl_bench.runtime.errors import InputError

_NOTHING = Told()


_SIZES = (
    (("patch_size",), "patch_size"),
    (("embed_dim", "hidden_size"), "width"),
    (("depth", "num_hidden_layers"), "depth"),
)
_BUILT_WITH = ("model_args", "model_kwargs")
_STATED_BY = {
    "heads": "--arch heads=N",
    "norm_eps": "--arch norm_eps=E",
    "size": "--arch grid=NxN",
    "pixels": "--pixels",
}


def with_statements(
    converted: Converted,
    content: dict[str, Any],
    *,
    told: Told = _NOTHING,
    pixels: Pixels | None = None,
    is_folder: bool = False,
) -> Converted:
    """Heads, epsilon and pixels as the file's own words have them, where they are still open.

    Args:
        told: what the user states of the architecture, which goes before the file's words.
        pixels: the same of the pixels.
        is_folder: its tables are the files of a folder.

    Raises:
        InputError: it states what is no value, or what its tensors contradict: heads that do not
            divide the width, another input or another size; or an input that is not square.
    """
    if "micl_bench" in content:
        return converted
    found = statements_of(content)
    _refuse_unusable(found, told, pixels, is_folder)
    _refuse_oblong(converted, found.size)
    if told.name is None:
        _refuse_contradictions(converted, found, told, is_folder)
    arch, guesses = converted.arch, converted.guesses
    if (
        "grid" in guesses
        and found.size
        and found.size[0] // arch.patch_size == arch.img_size // arch.patch_size
    ):
        guesses = _without(guesses, "grid")
    if "heads" in guesses and found.heads:
        changed = dataclasses.replace(arch, num_heads=found.heads)
        arch, guesses = with_heads(changed, arch.num_heads), _without(guesses, "heads")
    if "norm_eps" in guesses and found.norm_eps:
        arch = dataclasses.replace(arch, norm_eps=found.norm_eps)
        guesses = _without(guesses, "norm_eps")
    converted = dataclasses.replace(converted, arch=arch, guesses=guesses)
    if "pixels" in guesses and found.pixels:
        return with_pixels(converted, found.pixels)
    return converted


def _refuse_unusable(found: Statements, told: Told, pixels: Pixels | None, is_folder: bool) -> None:
    stated = {
        "heads": told.heads or told.name,
        "norm_eps": told.norm_eps or told.name,
        "size": told.grid or told.name,
        "pixels": pixels,
    }
    for fault in found.faults:
        if not stated[fault.kind]:
            raise InputError(
                f"{_place(fault.key, is_folder)} is {fault.value!r:.80}; needed: {fault.needed}; "
                f"correct it, or state {_STATED_BY[fault.kind]}"
            )


def _refuse_contradictions(
    converted: Converted, found: Statements, told: Told, is_folder: bool
) -> None:
    """The network was not built as these words say."""
    arch, grid = converted.arch, converted.arch.img_size // converted.arch.patch_size
    if found.heads and told.heads is None:
        # Of a named network too: what it was built with goes before what its name says.
        is_built = found.heads_key.rpartition(".")[0].endswith(_BUILT_WITH)
        is_other = is_built and "heads" not in converted.guesses and found.heads != arch.num_heads
        if is_other or ("heads" in converted.guesses and arch.width % found.heads):
            raise InputError(
                f"{_place(found.heads_key, is_folder)} is {found.heads}, which does not fit "
                f"{arch.name} of width {arch.width}; usual there: {arch.num_heads}; correct it, or "
                f"state {_STATED_BY['heads']}"
            )
    for place, table in found.networks:
        for key in ("img_size", "image_size") if told.grid is None else ():
            size = sides_of(table.get(key))
            if size and size[0] // arch.patch_size != grid:
                raise InputError(
                    f"{_place(f'{place}.{key}', is_folder)} is {table[key]!r}, but the positions are "
                    f"of {arch.img_size} pixels; correct it, or state --arch grid={grid}x{grid}"
                )
        # A run's options have widths and depths of other parts too.
        if not (is_folder or place.endswith(_BUILT_WITH)):
            continue
        for keys, field in _SIZES:
            for key in keys:
                value, wanted = table.get(key), getattr(arch, field)
                if type(value) is int and value != wanted:
                    raise InputError(
                        f"{_place(f'{place}.{key}', is_folder)} is {value}, but the tensors have "
                        f"{wanted}; correct it, or give the file that belongs to these words"
                    )


def _place(key: str, is_folder: bool) -> str:
    """`config.json: model_args.img_size` of a folder, `args.img_size` of a file."""
    top, _, rest = key.partition(".")
    return f"{top}.json: {rest}" if is_folder and rest else key


def _refuse_oblong(converted: Converted, size: tuple[int, int] | None) -> None:
    """As many patches as a square has may lie in an oblong: 24 x 6 of them are 12 x 12."""
    rows, columns = size or (0, 0)
    patch = converted.arch.patch_size
    if rows != columns and (rows // patch) * (columns // patch) == converted.arch.num_patches:
        raise InputError(
            f"the file states an input of {rows} x {columns} pixels; only square ones are read"
        )


def with_pixels(converted: Converted, pixels: Pixels) -> Converted:
    """Mean and std that somebody states."""
    guesses = _without(converted.guesses, "pixels")
    return dataclasses.replace(converted, mean=pixels[0], std=pixels[1], guesses=guesses)


def _without(guesses: tuple[Guess, ...], settled: Guess) -> tuple[Guess, ...]:
    return tuple(guess for guess in guesses if guess != settled)
