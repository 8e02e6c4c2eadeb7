"""All pictures of a report, or for each that cannot be drawn a sentence that says why."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from micl_bench.reference import Reference
from micl_bench.report.ablation_plot import found_ablations
from micl_bench.report.cost_plot import found_cost
from micl_bench.report.drawing import Drawing, Found, rendered
from micl_bench.report.galleries import KINDS, found_gallery, found_views
from micl_bench.report.robustness_plot import found_robustness
from micl_bench.report.scores import found_scores
from micl_bench.report.selection import Selection
from micl_bench.report.training import found_training


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
