"""All pictures of a report, or for each that cannot be drawn a sentence that says why."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from micl_bench.other_process import in_other_process
from micl_bench.reference import Reference
from micl_bench.report.ablation_plot import found_ablations
from micl_bench.report.cost_plot import found_cost
from micl_bench.report.drawing import Found, rendered
from micl_bench.report.galleries import KINDS, found_gallery, found_views
from micl_bench.report.robustness_plot import found_robustness
from micl_bench.report.scores import found_scores
from micl_bench.report.selection import Selection
from micl_bench.report.training import found_training

_Maker = Callable[[], Found]


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


def begin_drawing(
    selection: Selection, references: Sequence[Reference] = ()
) -> Callable[[], Gallery]:
    """Begin to draw whatever the records allow, beside the published numbers; the call waits for it.

    Half of a report's time goes into its pictures: two other processes draw them.
    """
    halves = [
        in_other_process(functools.partial(_drawn, makers))
        for makers in (_on_scores(selection, references), _on_networks(selection))
    ]

    def gallery() -> Gallery:
        found = [half() for half in halves]
        return Gallery(
            pictures=[picture for half in found for picture in half.pictures],
            left_out=[sentence for half in found for sentence in half.left_out],
        )

    return gallery


def _on_scores(selection: Selection, references: Sequence[Reference]) -> list[_Maker]:
    return [
        lambda: found_scores(selection),
        lambda: _costs(selection, references),
        lambda: found_robustness(selection),
    ]


def _on_networks(selection: Selection) -> list[_Maker]:
    return [
        lambda: found_ablations(selection),
        lambda: found_views(selection),
        lambda: found_training(selection),
        *(functools.partial(found_gallery, name, selection) for name in KINDS),
    ]


def _drawn(makers: list[_Maker]) -> Gallery:
    gallery = Gallery(pictures=[], left_out=[])
    for found in (make() for make in makers):
        gallery.left_out.extend(found.left_out)
        for drawing in found.drawings:
            png, pdf = rendered(drawing.draw, ["png", "pdf"])
            picture = Picture(
                name=drawing.name,
                title=drawing.title,
                caption=drawing.caption,
                png=png,
                pdf=pdf,
                table=drawing.table,
            )
            gallery.pictures.append(picture)
    return gallery


def _costs(selection: Selection, references: Sequence[Reference]) -> Found:
    """Accuracy against device-hours; against epochs where there is none, or published points meet."""
    hours = found_cost(selection, references, "device-hours")
    epochs = found_cost(selection, references, "epochs")
    if hours.drawings and not any("Hollow" in drawing.caption for drawing in epochs.drawings):
        return hours
    left_out = [] if epochs.drawings else hours.left_out
    return Found(drawings=[*hours.drawings, *epochs.drawings], left_out=left_out)
