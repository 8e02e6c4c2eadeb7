"""Images side by side in one picture: rows of equal cells with titles above the columns."""

import dataclasses

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D, Bbox, Transform, TransformedBbox
from numpy.typing import NDArray

from micl_bench.report.figures.palette import INK, PAGE_INCHES, SMALL

Image = NDArray[np.uint8]
_TITLE_INCHES = 0.26
_NOTE_INCHES = 0.2
_CRISP = 200
"""Images of fewer rows are enlarged without smoothing: their pixels are what the model saw."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One image's place. What is drawn there is in its pixels, from its upper left corner."""

    axes: Axes
    box: Bbox
    """In inches from the figure's lower left corner."""
    image: Image

    @property
    def transform(self) -> Transform:
        """From the image's pixels to the display."""
        height, width = self.image.shape[:2]
        scale = Affine2D().scale(self.box.width / width, -self.box.height / height)
        return scale.translate(self.box.x0, self.box.y1) + self.axes.transData

    def clip(self, artist: Artist) -> None:
        """Let nothing of an artist reach beyond the image."""
        artist.set_clip_box(TransformedBbox(self.box, self.axes.transData))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mosaic:
    """The figure, and its cells row by row."""

    figure: Figure
    cells: list[list[Cell]]


def mosaic(
    rows: list[list[Image]],
    *,
    titles: list[str],
    notes: list[list[str]] | None = None,
    group: int = 0,
    largest_cell_inches: float = 2.0,
) -> Mosaic:
    """Draw rows of RGB images of one size; `group` columns stand close, wider gaps between groups.

    All share one pair of axes in inches: axes of its own for each image would take most of the time.

    Args:
        notes: a few words below each image.
    """
    height, width = rows[0][0].shape[:2]
    gap, wide = 0.05, 0.22 if group else 0.05
    lefts = _lefts(len(titles), gap=gap, wide=wide, group=group)
    across = min(largest_cell_inches, PAGE_INCHES / (lefts[-1] + 1))
    down = across * height / width
    row_inches = down + (_NOTE_INCHES if notes else gap * across)
    size = ((lefts[-1] + 1) * across, _TITLE_INCHES + row_inches * len(rows))
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, size[0]), ylim=(0, size[1]))
    cells = []
    for index, images in enumerate(rows):
        top = size[1] - _TITLE_INCHES - index * row_inches
        boxes = [Bbox([[left * across, top - down], [(left + 1) * across, top]]) for left in lefts]
        cells.append(
            [
                Cell(axes=axes, box=box, image=image)
                for box, image in zip(boxes, images, strict=False)
            ]
        )
        for cell in cells[-1]:
            _draw(cell)
        for cell, note in zip(cells[-1], notes[index] if notes else (), strict=False):
            _write(cell, note, below=True)
    for cell, title in zip(cells[0], titles, strict=False):
        _write(cell, title, below=False)
    return Mosaic(figure=figure, cells=cells)


def _lefts(num_columns: int, *, gap: float, wide: float, group: int) -> list[float]:
    """Left edges in cells."""
    return [
        column * (1 + gap) + (column // group * (wide - gap) if group else 0)
        for column in range(num_columns)
    ]


def _draw(cell: Cell) -> None:
    limits = (cell.axes.get_xlim(), cell.axes.get_ylim())
    cell.axes.imshow(
        cell.image,
        extent=(cell.box.x0, cell.box.x1, cell.box.y0, cell.box.y1),
        aspect="auto",
        interpolation="nearest" if len(cell.image) < _CRISP else "antialiased",
    )
    # An image moves them to its own edges.
    cell.axes.set(xlim=limits[0], ylim=limits[1])


def _write(cell: Cell, text: str, *, below: bool) -> None:
    cell.axes.annotate(
        text,
        (cell.box.x0, cell.box.y0 if below else cell.box.y1),
        xytext=(0, -3 if below else 4),
        textcoords="offset points",
        va="top" if below else "bottom",
        fontsize=SMALL if below else 8,
        color="#555555" if below else INK,
        annotation_clip=False,
    )
