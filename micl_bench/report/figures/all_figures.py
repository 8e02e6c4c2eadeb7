"""All pictures of a report, and a sentence with the reason on each that cannot be drawn."""

import dataclasses
import struct
from collections.abc import Sequence

from micl_bench.records.published import Reference
from micl_bench.report.figures.ablation_plot import found_ablations
from micl_bench.report.figures.cost_plot import found_costs
from micl_bench.report.figures.galleries import KINDS, found_gallery
from micl_bench.report.figures.render import Drawing, rendered
from micl_bench.report.figures.robustness_plot import found_robustness
from micl_bench.report.figures.scores_plot import found_scores
from micl_bench.report.figures.training_plot import found_training
from micl_bench.report.frame.selection import Selection


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture(Drawing):
    """One figure as the report embeds it; equal records give equal bytes."""

    png: bytes
    pdf: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the PNG's header."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height


def draw_all(
    selection: Selection, references: Sequence[Reference] = ()
) -> tuple[list[Picture], list[str]]:
    """Draw whatever the records allow, beside the published numbers.

    Returns:
        The pictures in order, and sentences on those that are left out.
    """
    pictures, left_out = [], []
    for found in (
        found_scores(selection),
        found_costs(selection, references),
        found_robustness(selection),
        found_ablations(selection),
        found_training(selection),
        *(found_gallery(name, selection) for name in KINDS),
    ):
        left_out += found.remarks
        for drawing in found.drawings:
            png, pdf = rendered(drawing.draw, ["png", "pdf"])
            pictures.append(Picture(**vars(drawing), png=png, pdf=pdf))
    return pictures, left_out
