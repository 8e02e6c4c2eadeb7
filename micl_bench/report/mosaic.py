"""Images side by side in one picture: rows of equal cells with titles above the columns."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from micl_bench.report.palette import INK, PAGE_INCHES

Image = NDArray[np.uint8]
_TITLE_INCHES = 0.3


def mosaic(
    rows: list[list[Image]],
    *,
    titles: list[str],
    notes: list[list[str]] | None = None,
    group: int = 0,
    largest_cell_inches: float = 2.6,
) -> Figure:
    """Draw rows of RGB images of one size; `group` columns stand close, wider gaps between groups.

    `notes` puts a few words below each image.
    """
    num_columns = len(titles)
    height, width = rows[0][0].shape[:2]
    gap, wide = 0.05, 0.22 if group else 0.05
    lefts = _lefts(num_columns, gap=gap, wide=wide, group=group)
    cell = min(largest_cell_inches, PAGE_INCHES / (lefts[-1] + 1))
    row_inches = cell * height / width + (0.26 if notes else gap * cell)
    total = _TITLE_INCHES + row_inches * len(rows)
    figure = Figure(figsize=((lefts[-1] + 1) * cell, total))
    for index, images in enumerate(rows):
        bottom = total - _TITLE_INCHES - index * row_inches - cell * height / width
        for column, image in enumerate(images):
            box = (lefts[column] * cell, bottom, cell, cell * height / width)
            axes = _image_axes(figure, box, image)
            if index == 0:
                axes.set_title(titles[column], fontsize=9, color=INK, pad=4)
            if notes:
                _note(axes, notes[index][column])
    return figure


def _lefts(num_columns: int, *, gap: float, wide: float, group: int) -> list[float]:
    """Left edges in cells."""
    return [
        column * (1 + gap) + (column // group * (wide - gap) if group else 0)
        for column in range(num_columns)
    ]


def _image_axes(figure: Figure, box: tuple[float, float, float, float], image: Image) -> Axes:
    """An image at a place given in inches from the figure's lower left corner."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    # Small images stay crisp: their pixels are what the model saw.
    axes.imshow(image, interpolation="nearest" if len(image) < 200 else "antialiased")
    axes.set_axis_off()
    return axes


def _note(axes: Axes, text: str) -> None:
    axes.annotate(
        text,
        (0, 0),
        xycoords="axes fraction",
        xytext=(0, -3),
        textcoords="offset points",
        va="top",
        fontsize=7.5,
        color="#555555",
    )
