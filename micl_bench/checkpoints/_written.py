"""What a file states takes the place of what would be assumed."""

import dataclasses
from typing import Any

from micl_bench.checkpoints._convert import Converted, Guess
from micl_bench.checkpoints._infer import with_heads
from micl_bench.checkpoints._statements import statements_of
from micl_bench.checkpoints._told import Pixels
from micl_bench.errors import InputError


def with_statements(converted: Converted, content: dict[str, Any]) -> Converted:
    """Heads, epsilon and pixels as the file's own words have them, where they are still open.

    Raises:
        InputError: it states heads that do not divide the width, or an input that is not square.
    """
    if "micl_bench" in content:
        return converted
    found = statements_of(content)
    _refuse_oblong(converted, found.size)
    arch, guesses = converted.arch, converted.guesses
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
