"""Images side by side in one picture: rows of equal cells with titles above the columns."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from micl_bench.report.figures.palette import PAGE_INCHES
from micl_bench.report.figures.panels import shortened, write_at

Image = NDArray[np.uint8]
_TITLE_INCHES, _NOTE_INCHES = 0.26, 0.2
_GAP, _WIDE_GAP = 0.05, 0.22
"""Between cells and between groups of them, in widths of a cell."""
_LETTERS_PER_INCH, _FEWEST_LETTERS = 16, 18
_CRISP = 200
"""Images of fewer rows are enlarged without smoothing: their pixels are what the model saw."""


class ImageGrid(NamedTuple):
    """Images on one pair of axes, whose unit is their pixel."""

    figure: Figure
    axes: Axes
    corners: list[list[tuple[int, int]]]
    """Left and top of each image in pixels, row by row."""


def image_grid(
    rows: Sequence[Sequence[Image]],
    *,
    titles: Sequence[str],
    notes: Sequence[Sequence[str]] = (),
    group: int = 0,
    largest_cell_inches: float = 2.0,
) -> ImageGrid:
    """Draw rows of RGB images of one size; `group` columns stand close, wider gaps between groups.

    All are pasted into one: an image or axes of its own for each would take most of the time.

    Args:
        notes: a few words below each image.
    """
    height, width = rows[0][0].shape[:2]
    gap = max(1, round(_GAP * width))
    wider = round(_WIDE_GAP * width) - gap if group else 0
    lefts = [c * (width + gap) + c // max(group, 1) * wider for c in range(len(titles))]
    per_inch = max((lefts[-1] + width) / PAGE_INCHES, width / largest_cell_inches)
    below = round(_NOTE_INCHES * per_inch) if notes else gap
    tops = [row * (height + below) for row in range(len(rows))]
    canvas = np.full((tops[-1] + height + below, lefts[-1] + width, 3), 255, dtype=np.uint8)
    for top, images in zip(tops, rows, strict=True):
        for left, image in zip(lefts, images, strict=False):
            canvas[top : top + height, left : left + width] = image
    across, down = canvas.shape[1] / per_inch, canvas.shape[0] / per_inch
    figure = Figure(figsize=(across, down + _TITLE_INCHES))
    axes = figure.add_axes((0, 0, 1, down / (down + _TITLE_INCHES)))
    axes.set_axis_off()
    interpolation = "nearest" if height < _CRISP else "antialiased"
    axes.imshow(
        canvas,
        extent=(0, canvas.shape[1], canvas.shape[0], 0),
        aspect="auto",
        interpolation=interpolation,
    )
    letters = max(_FEWEST_LETTERS, int(_LETTERS_PER_INCH * width / per_inch))
    for left, title in zip(lefts, titles, strict=True):
        words = "\n".join(shortened(line, letters) for line in title.split("\n"))
        write_at(axes, words, (left, 0), (0, 4), va="bottom", fontsize=8)
    for top, words_of in zip(tops, notes, strict=False):
        for left, note in zip(lefts, words_of, strict=False):
            write_at(axes, note, (left, top + height), (0, -3), va="top", color="#555555")
    corners = [
        [(left, top) for left, _ in zip(lefts, images, strict=False)]
        for top, images in zip(tops, rows, strict=True)
    ]
    return ImageGrid(figure, axes, corners)
