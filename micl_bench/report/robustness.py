"""Effective robustness: how much better on a shifted set than its clean accuracy lets expect.

Taori et al., Measuring Robustness to Natural Distribution Shifts in Image Classification (NeurIPS
2020): over many models, shifted accuracy is linear in clean accuracy once both are logits; a model's
effective robustness is its shifted accuracy less that line's (equation 1).
"""

import dataclasses
import math

import numpy as np

from micl_bench.record import DataSet, Result
from micl_bench.report.metrics import format_interval, interval, method_rank
from micl_bench.report.protocols import captions
from micl_bench.report.tables import data_label, data_order

FEWEST_FOR_A_LINE = 3
TABLE_HEADER = ["set", "method", "clean top-1 [%]", "shifted top-1 [%]", "above the line [points]"]

Bounds = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One checkpoint on one set; percentages."""

    method: str
    clean: float
    shifted: float
    clean_interval: Bounds | None
    shifted_interval: Bounds | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """logit(shifted) = slope x logit(clean) + intercept."""

    slope: float
    intercept: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """All checkpoints on one shifted set, under one protocol."""

    title: str
    data: DataSet
    points: list[Point]
    line: Line | None
    """None where fewer than three checkpoints were measured, or all have one clean accuracy."""

    def logit(self, percentage: float) -> float:
        """Of an accuracy; 0 and 100 %, whose logits are infinite, count as half an image."""
        return _logit(percentage, self.data.images)

    def above_line(self, point: Point) -> float | None:
        """Effective robustness in points, where there is a line to measure it from."""
        if self.line is None:
            return None
        expected = self.line.slope * self.logit(point.clean) + self.line.intercept
        return point.shifted - percentage(expected)


def panels(results: list[Result]) -> list[Panel]:
    """A panel for each shifted set and protocol among `results`, which come newest first.

    Of a checkpoint measured several times the newest counts.
    """
    usable = [result for result in results if _has_both(result)]
    caption_of = captions(usable)
    places = dict.fromkeys((result.data, caption_of[result.id]) for result in usable)
    datas = list(dict.fromkeys(data for data, _ in places))
    found = []
    for data, words in sorted(places, key=lambda place: (data_order(place[0]), place[1])):
        newest: dict[str, Result] = {}
        for result in usable:
            if (result.data, caption_of[result.id]) == (data, words):
                newest.setdefault(result.checkpoint.digest, result)
        several = sum(other == data for other, _ in places) > 1
        label = data_label(data, datas)
        title = f"{label}; {words}" if several else label
        found.append(_panel(title, data, list(newest.values())))
    return found


def caption(drawn: list[Panel]) -> str:
    """What the picture shows, and honestly what its lines are."""
    words = [
        "Top-1 on the clean images of a set's own classes against top-1 on the shifted set, both axes "
        "in logits; bars are 95 % intervals. Grey: y = x, nothing lost."
    ]
    bare = [panel.title for panel in drawn if not panel.line]
    if len(bare) < len(drawn):
        words.append(
            "Dashed: the line fitted in logits through the points of the panel themselves. The table "
            "gives each point's distance from it, the effective robustness of Taori et al. (2020), "
            "here relative to the other points."
        )
    if bare:
        words.append(
            f"Only y = x is drawn for {', '.join(bare)}: a line takes {FEWEST_FOR_A_LINE} checkpoints "
            "of different clean accuracy."
        )
    return " ".join(words)


def table_rows(drawn: list[Panel]) -> list[list[str]]:
    """The points of all panels under `TABLE_HEADER`."""
    rows = []
    for panel in drawn:
        for point in panel.points:
            above = panel.above_line(point)
            rows.append(
                [
                    panel.title,
                    point.method,
                    _with_interval(point.clean, point.clean_interval),
                    _with_interval(point.shifted, point.shifted_interval),
                    "–" if above is None else f"{above:+.1f}",
                ]
            )
    return rows


def percentage(logit: float) -> float:
    """The accuracy of a logit."""
    return 50 * (1 + math.tanh(logit / 2))


def _has_both(result: Result) -> bool:
    scores = [result.metrics.get(name, math.nan) for name in ("clean_top1", "top1")]
    return all(map(math.isfinite, scores)) and result.data.images > 0


def _panel(title: str, data: DataSet, results: list[Result]) -> Panel:
    ordered = sorted(results, key=lambda result: (method_rank(result.method), result.id))
    names = [result.method for result in ordered]
    points = [
        Point(
            method=result.method
            if names.count(result.method) == 1
            else f"{result.method}, weights {result.checkpoint.digest[:7]}",
            clean=result.metrics["clean_top1"],
            shifted=result.metrics["top1"],
            clean_interval=interval(result, "clean_top1"),
            shifted_interval=interval(result, "top1"),
        )
        for result in ordered
    ]
    return Panel(title=title, data=data, points=points, line=_fitted(points, data.images))


def _fitted(points: list[Point], images: int) -> Line | None:
    """Least squares in logits, each point counting alike, as Taori et al. do."""
    x = np.array([_logit(point.clean, images) for point in points])
    y = np.array([_logit(point.shifted, images) for point in points])
    if len(points) < FEWEST_FOR_A_LINE or np.ptp(x) < 1e-9:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return Line(slope=float(slope), intercept=float(intercept))


def _with_interval(value: float, bounds: Bounds | None) -> str:
    return f"{value:.1f}" + (f" ({format_interval('top1', bounds)})" if bounds else "")


def _logit(percentage: float, images: int) -> float:
    half = 50 / images
    inside = min(max(percentage, half), 100 - half)
    return math.log(inside / (100 - inside))
