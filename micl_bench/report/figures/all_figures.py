"""All pictures of a report, or for each that cannot be drawn a sentence that says why."""

import dataclasses
import functools
import struct
from collections.abc import Callable, Sequence

from micl_bench.records.published import Reference
from micl_bench.report.figures.ablation_plot import found_ablations
from micl_bench.report.figures.cost_plot import found_cost
from micl_bench.report.figures.galleries import KINDS, found_gallery, found_views
from micl_bench.report.figures.render import Drawing, Found, rendered
from micl_bench.report.figures.robustness_plot import found_robustness
from micl_bench.report.figures.scores_plot import found_scores
from micl_bench.report.figures.training_plot import found_training
from micl_bench.report.frame.selection import Selection


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure as the report embeds it."""

    name: str
    title: str
    caption: str
    png: bytes
    pdf: bytes
    """Equal records give equal bytes, of both."""
    table: list[list[str]] = dataclasses.field(default_factory=list)
    """Shown under it, the header first; empty where the picture says all."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the PNG's header."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures in order, and sentences on those that are left out."""

    pictures: list[Picture]
    left_out: list[str]


def draw_all(selection: Selection, references: Sequence[Reference] = ()) -> Gallery:
    """Draw whatever the records allow, beside the published numbers."""
    makers: list[Callable[[Selection], Found]] = [
        found_scores,
        functools.partial(_costs, references=references),
        found_robustness,
        found_ablations,
        found_views,
        found_training,
        *(functools.partial(found_gallery, name) for name in KINDS),
    ]
    gallery = Gallery(pictures=[], left_out=[])
    for found in (make(selection) for make in makers):
        gallery.left_out.extend(found.left_out)
        gallery.pictures.extend(map(_picture, found.drawings))
    return gallery


def _picture(drawing: Drawing) -> Picture:
    png, pdf = rendered(drawing.draw, ["png", "pdf"])
    return Picture(
        name=drawing.name,
        title=drawing.title,
        caption=drawing.caption,
        png=png,
        pdf=pdf,
        table=drawing.table,
    )


def _costs(selection: Selection, references: Sequence[Reference]) -> Found:
    """Accuracy against device-hours; against epochs where there is none, or published points meet."""
    hours = found_cost(selection, references, "device-hours")
    epochs = found_cost(selection, references, "epochs")
    if hours.drawings and not any("Hollow" in drawing.caption for drawing in epochs.drawings):
        return hours
    left_out = [] if epochs.drawings else hours.left_out
    return Found(drawings=[*hours.drawings, *epochs.drawings], left_out=left_out)
