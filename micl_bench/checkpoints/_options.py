"""The options `--arch` (a name, or single values) and `--pixels` of a checkpoint, taken apart."""

import dataclasses
import math

from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from micl_bench.runtime.errors import InputError

Pixels = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and std of pixels from 0 to 1."""

IMAGENET: Pixels = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
INCEPTION: Pixels = (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD)
_NAMED: dict[str, Pixels] = {
    "imagenet": IMAGENET,
    "inception": INCEPTION,
    "clip": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
}
_MOST_HEADS, _LARGEST_GRID = 1024, 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatedArch:
    """The parts of `--arch`."""

    name: str | None = None
    heads: int | None = None
    grid: int | None = None
    """Patches per side."""
    norm_eps: float | None = None


def stated_arch(arch: str | None) -> StatedArch:
    """Take `NAME`, `NAME,heads=6` or `heads=6,grid=14x14` apart.

    Raises:
        InputError: a part is no value that is known, or there are two names.
    """
    values: dict[str, object] = {}
    for part in arch.split(",") if arch is not None else ():
        key, is_value, text = part.strip().partition("=")
        key, value = (key, _value(key, text.strip())) if is_value else ("name", key)
        if value in (None, "") or key in values:
            raise InputError(
                f"--arch {arch}: needed is an architecture's name, or values such as heads=6, "
                "grid=14x14, norm_eps=1e-6 with commas between them"
            )
        values[key] = value
    return StatedArch(**values)  # type: ignore[arg-type]


def _value(key: str, text: str) -> int | float | None:
    """Return the value of that key, or None where the text is none."""
    rows, _, columns = text.partition("x")
    try:
        if key == "heads" and 0 < int(text) <= _MOST_HEADS:
            return int(text)
        if key == "norm_eps" and 0 < float(text) < 1:
            return float(text)
        sides = {int(rows), int(columns or rows)} if key == "grid" else set()
    except ValueError:
        return None
    if len(sides) == 2:
        raise InputError(f"--arch grid={text}: only square grids are read")
    return next((side for side in sides if 0 < side <= _LARGEST_GRID), None)


def stated_pixels(text: str) -> Pixels:
    """Return mean and std of `imagenet`, `inception`, `clip`, or of six numbers.

    Raises:
        InputError: the text is neither.
    """
    if text in _NAMED:
        return _NAMED[text]
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)) or min(numbers[3:]) <= 0:
        raise InputError(
            f"--pixels {text}: needed is {', '.join(_NAMED)}, or mean and std of red, green and blue "
            "as six numbers of pixels from 0 to 1, 0.485,0.456,0.406,0.229,0.224,0.225"
        )
    red, green, blue, *std = numbers
    return (red, green, blue), (std[0], std[1], std[2])


def pixels_in_words(pixels: Pixels) -> str:
    """Return mean and std in words, by their name where they have one."""
    words = {IMAGENET: "ImageNet's mean and std", INCEPTION: "mean and std of 0.5"}
    return words.get(pixels, f"mean {' '.join(f'{one:g}' for one in pixels[0])}")
