"""Parts that figures share: panels in a grid, one legend, whiskers, marks of protocols."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from micl_bench.report.figures.palette import INK, PAGE_INCHES, SMALL
from micl_bench.report.tables.measured_cell import mark_of

_PANEL_INCHES = 2.5
_LETTERS_PER_INCH, _TITLE_LETTERS_PER_INCH = 17, 13
_LETTERS_OF_A_HANDLE = 9
_LONGEST_LABEL = 60
"""Letters of a name: thousands of them would make a picture that nobody can open."""


def panel_grid(
    number: int, *, abreast: int, notes: Sequence[str] = ()
) -> tuple[Figure, list[Axes]]:
    """Return a figure of equal panels, at most `abreast` in a row, with notes in small letters below."""
    columns = min(abreast, number)
    rows = math.ceil(number / columns)
    width = PAGE_INCHES * max(columns / abreast, 0.5)
    letters = int(_LETTERS_PER_INCH * width)
    lines = [
        part for note in notes for part in textwrap.wrap(note, letters, subsequent_indent="    ")
    ]
    height = _PANEL_INCHES * rows + 0.45 + 0.13 * len(lines)
    figure = Figure(figsize=(width, height), layout="constrained")
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=SMALL, color=INK, x=0.01, ha="left")
    grid = figure.add_gridspec(rows, columns)
    return figure, [figure.add_subplot(grid[place]) for place in range(number)]


def name_panel(axes: Axes, *, title: str, xlabel: str, ylabel: str) -> None:
    """Name a panel of a grid, in lines no wider than itself."""
    grid = axes.get_gridspec()
    assert grid is not None
    inches = axes.figure.bbox.width / axes.figure.dpi / grid.ncols
    letters = int(_TITLE_LETTERS_PER_INCH * inches)
    title, xlabel = (wrapped(words, letters) for words in (title, xlabel))
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)


def wrapped(text: str, letters: int) -> str:
    """Break a text into lines of at most so many letters; a longer word is cut, never broken in two."""
    lines = textwrap.wrap(text, letters, break_long_words=False)
    return "\n".join(shortened(line, letters) for line in lines)


def add_legend(
    figure: Figure,
    handles: Mapping[str, Artist] | None = None,
    *,
    loc: Any = "outside upper left",
    **more: Any,
) -> None:
    """Add one legend to a figure, with as many names abreast as its width has room for.

    Args:
        handles: artists by name; None for those of all axes.
    """
    found = handles or {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if not found:
        return
    labels = [shortened(label, _LONGEST_LABEL) for label in found]
    letters = _LETTERS_OF_A_HANDLE + max(map(len, labels))
    room = int(_LETTERS_PER_INCH * figure.get_figwidth() / letters)
    figure.legend(list(found.values()), labels, loc=loc, ncols=max(1, room), **more)


def write_at(
    axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **style: Any
) -> None:
    """Write small letters at an offset in points from a place."""
    style = {"fontsize": SMALL, "color": INK, "annotation_clip": False, **style}
    axes.annotate(text, place, xytext=offset, textcoords="offset points", **style)


def whiskers(
    values: Sequence[float], intervals: Iterable[tuple[float, float] | None]
) -> NDArray[np.float64]:
    """Return lengths below and above N values, (2, N); without an interval NaN, which draws nothing."""
    low, high = np.array([ends or (math.nan, math.nan) for ends in intervals]).reshape(-1, 2).T
    return np.maximum([values - low, high - values], 0)


def marks(protocols: Iterable[str]) -> dict[str, str]:
    """Return a mark for each of several protocols, by the alphabet; an empty one for one protocol."""
    distinct = sorted(set(protocols))
    return {words: mark_of(i) if len(distinct) > 1 else "" for i, words in enumerate(distinct)}


def drawn_of(drawn: int, every: int, what: str) -> list[str]:
    """Return the sentence that not all are drawn, where they are not."""
    return [f"Drawn are {drawn} of {every} {what}."] if drawn < every else []


def shortened(text: str, most: int) -> str:
    """Cut a text to at most so many letters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
