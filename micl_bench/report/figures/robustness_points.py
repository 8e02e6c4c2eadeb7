"""Effective robustness: how much better on a shifted set than its clean accuracy lets expect.

Taori et al., Measuring Robustness to Natural Distribution Shifts in Image Classification (NeurIPS
2020): over many models, shifted accuracy is linear in clean accuracy once both are logits; a model's
effective robustness is its shifted accuracy less that line's (equation 1).
"""

import dataclasses
import math

import numpy as np

from micl_bench.records.declared import Number
from micl_bench.records.result import CheckpointInfo, DataSet, Record, Result
from micl_bench.report.frame.identity import identity_of, labels, weights_of
from micl_bench.report.frame.long import grouped, long_frame
from micl_bench.report.frame.naming import data_label, data_order, method_rank
from micl_bench.report.frame.protocols import captions
from micl_bench.report.tables.measured_cell import mark_of

FEWEST_FOR_A_LINE = 3
_SAME = 1e-9
"""Clean accuracies whose logits differ by less are one: they hold no line up."""
TABLE_HEADER = ["set", "method", "clean top-1 [%]", "shifted top-1 [%]", "above the line [points]"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One checkpoint on one set; percentages."""

    method: str
    """With what tells the checkpoint from the method's others."""
    family: str
    """The method alone."""
    clean: Number
    shifted: Number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """logit(shifted) = slope x logit(clean) + intercept."""

    slope: float
    intercept: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """All checkpoints on one shifted set, under one protocol."""

    title: str
    """The data set, with the mark of the protocol where the picture has several."""
    mark: str
    """Empty where the picture has a single protocol."""
    protocol: str
    data: DataSet
    points: list[Point]
    line: Line | None
    """None where there are fewer than three different clean accuracies."""

    def logit(self, percentage: float) -> float:
        """Of an accuracy; 0 and 100 %, whose logits are infinite, count as half an image."""
        return _logit(percentage, self.data.images)

    def above_line(self, point: Point) -> float | None:
        """Effective robustness in points, where there is a line to measure it from."""
        if self.line is None:
            return None
        expected = self.line.slope * self.logit(point.clean.value) + self.line.intercept
        return point.shifted.value - percentage(expected)


def panels(results: list[Record]) -> list[Panel]:
    """A panel for each shifted set and protocol among `results`, which come newest first.

    Of a checkpoint measured several times the newest counts.
    """
    usable = [result for result in results if _has_both(result)]
    frame = long_frame(usable)
    frame["words"] = frame["id"].map(captions(usable))
    newest = frame.drop_duplicates(["data_set", "words", "weights_read"])
    places: dict[tuple[DataSet, str], list[Record]] = grouped(newest, "data_set", "words")
    datas = list(dict.fromkeys(data for data, _ in places))
    names, found = _names(usable), []
    protocols = sorted({words for _, words in places})
    for place in sorted(places, key=lambda place: (data_order(place[0]), place[1])):
        data, words = place
        mark = mark_of(protocols.index(words)) if len(protocols) > 1 else ""
        ordered = sorted(places[place], key=lambda r: (method_rank(r.method), r.id))
        points = [_point(result, names[weights_of(result)]) for result in ordered]
        found.append(
            Panel(
                title=data_label(data, datas) + (f" [{mark}]" if mark else ""),
                mark=mark,
                protocol=words,
                data=data,
                points=points,
                line=_fitted(points, data.images),
            )
        )
    return found


def caption(drawn: list[Panel]) -> str:
    """What the picture shows, and honestly what its lines are."""
    words = [
        "Top-1 on the clean images of a set's own classes against top-1 on the shifted set, both axes "
        "in logits; bars are 95 % intervals. Grey: y = x, nothing lost."
    ]
    bare = [panel.title for panel in drawn if not panel.line]
    fitted = [f"{len(p.points)} on {p.title}" for p in drawn if p.line]
    if fitted:
        words.append(
            "Dashed: the line fitted in logits through the points of the panel themselves, "
            f"{', '.join(fitted)}; through so few, a point's distance from it says little. The table "
            "gives these distances, the effective robustness of Taori et al. (2020), here relative "
            "to the other points."
        )
    if bare:
        words.append(
            f"Only y = x is drawn for {', '.join(bare)}: a line takes {FEWEST_FOR_A_LINE} checkpoints "
            "of different clean accuracy."
        )
    if any("weights " in point.method for panel in drawn for point in panel.points):
        words.append("Weights: the first digits of a checkpoint's SHA-256.")
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
                    _with_interval(point.clean),
                    _with_interval(point.shifted),
                    "–" if above is None else f"{above:+.1f}",
                ]
            )
    return rows


def percentage(logit: float) -> float:
    """The accuracy of a logit."""
    return 50 * (1 + math.tanh(logit / 2))


def _has_both(result: Result) -> bool:
    scores = [result.values.get(name, math.nan) for name in ("clean_top1", "top1")]
    return all(map(math.isfinite, scores)) and result.data.images > 0


def _names(results: list[Record]) -> dict[CheckpointInfo, str]:
    """The method of each network, with what tells it from others where a method has several."""
    # Neither seed nor classifier: a panel is of one protocol, and shows a network once.
    identities = {
        weights_of(result): identity_of(result)._replace(seed=0, classifier="")
        for result in results
    }
    found = labels(identities.values())
    return {weights: found[identity] for weights, identity in identities.items()}


def _point(result: Result, name: str) -> Point:
    return Point(
        method=name,
        family=result.method,
        clean=result.metrics["clean_top1"],
        shifted=result.metrics["top1"],
    )


def protocol_lines(drawn: list[Panel]) -> list[str]:
    """The protocol of all panels, or a line with its mark for each of several."""
    found = dict(sorted((panel.mark, panel.protocol) for panel in drawn))
    return [f"[{mark}] {words}" if mark else words for mark, words in found.items()]


def _fitted(points: list[Point], images: int) -> Line | None:
    """Least squares in logits, each point counting alike, as Taori et al. do."""
    x = np.array([_logit(point.clean.value, images) for point in points])
    y = np.array([_logit(point.shifted.value, images) for point in points])
    if 1 + (np.diff(np.sort(x)) > _SAME).sum() < FEWEST_FOR_A_LINE:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return Line(slope=float(slope), intercept=float(intercept))


def _with_interval(number: Number) -> str:
    ends = number.interval
    return f"{number}" + (f" ({number.interval_text(ends)})" if ends else "")


def _logit(percentage: float, images: int) -> float:
    half = 50 / images
    inside = min(max(percentage, half), 100 - half)
    return math.log(inside / (100 - inside))
