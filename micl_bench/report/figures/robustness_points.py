"""Effective robustness: the accuracy on a shifted set beyond the one that clean accuracy predicts.

Taori et al., Measuring Robustness to Natural Distribution Shifts in Image Classification (NeurIPS
2020): over many models, shifted accuracy is linear in clean accuracy once both are logits; a model's
effective robustness is its shifted accuracy less that line's (equation 1).
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micl_bench.records.declared import Number
from micl_bench.records.result import DataSet, Record, Result
from micl_bench.records.weights import CheckpointInfo
from micl_bench.report.figures.panels import marks
from micl_bench.report.frame.identity import identity_of, labels, weights_of
from micl_bench.report.frame.long import grouped, long_frame
from micl_bench.report.frame.naming import data_label, data_order, method_rank
from micl_bench.report.frame.protocols import captions

FEWEST_FOR_A_LINE = 3
_SAME = 1e-9
"""Clean accuracies whose logits differ by less are one: they hold no line up."""
TABLE_HEADER = ["set", "method", "clean top-1 [%]", "shifted top-1 [%]", "above the line [points]"]


class Point(NamedTuple):
    """One checkpoint on one set; percentages."""

    method: str
    """The method, with words that distinguish the checkpoint from its others."""
    family: str
    """The method alone."""
    clean: Number
    shifted: Number


class Line(NamedTuple):
    """logit(shifted) = slope x logit(clean) + intercept."""

    slope: float
    intercept: float

    def at(self, clean: float) -> float:
        """Return the shifted accuracy that a clean one predicts, in percent."""
        return float(percentage(self.slope * logit(clean) + self.intercept))


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

    def drawn(self, accuracy: float) -> float:
        """Return the accuracy that is drawn: 0 and 100 %, of infinite logits, are half an image away."""
        return _inside(accuracy, self.data.images)

    def above_line(self, point: Point) -> float | None:
        """Return effective robustness in points; None where there is no line to measure it from."""
        if self.line is None:
            return None
        return point.shifted.value - self.line.at(self.drawn(point.clean.value))


def logit(percent: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits of accuracies in percent; those of 0 and 100 are made finite."""
    inside = np.clip(percent, 1e-9, 100 - 1e-9)
    return np.log(inside / (100 - inside))


def percentage(logits: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the accuracies of logits, in percent."""
    return 50 * (1 + np.tanh(np.divide(logits, 2)))


def panels(results: list[Record]) -> list[Panel]:
    """Return a panel for each shifted set and protocol among `results`, which come newest first.

    Of a checkpoint measured several times the newest counts.
    """
    usable = [result for result in results if _has_both(result)]
    frame = long_frame(usable)
    frame["words"] = frame["id"].map(captions(usable))
    newest = frame.drop_duplicates(["data_set", "words", "weights_read"])
    places: dict[tuple[DataSet, str], list[Record]] = grouped(newest, "data_set", "words")
    datas = list(dict.fromkeys(data for data, _ in places))
    names, mark_of = _names(usable), marks(words for _, words in places)
    found = []
    for data, words in sorted(places, key=lambda place: (data_order(place[0]), place[1])):
        points = [
            Point(names[weights_of(r)], r.method, r.metrics["clean_top1"], r.metrics["top1"])
            for r in sorted(places[data, words], key=lambda r: (method_rank(r.method), r.id))
        ]
        mark = mark_of[words]
        panel = Panel(
            title=data_label(data, datas) + (f" [{mark}]" if mark else ""),
            mark=mark,
            protocol=words,
            data=data,
            points=points,
            line=_fitted(points, data.images),
        )
        found.append(panel)
    return found


def _has_both(result: Result) -> bool:
    scores = [result.values.get(name, math.nan) for name in ("clean_top1", "top1")]
    return all(map(math.isfinite, scores)) and result.data.images > 0


def _names(results: list[Record]) -> dict[CheckpointInfo, str]:
    """Return a label per network: the method, with distinguishing words where a method has several."""
    # Neither seed nor classifier: a panel is of one protocol, and shows a network once.
    identities = {
        weights_of(result): identity_of(result)._replace(seed=0, classifier="")
        for result in results
    }
    found = labels(identities.values())
    return {weights: found[identity] for weights, identity in identities.items()}


def _inside(accuracy: float, images: int) -> float:
    return min(max(accuracy, 50 / images), 100 - 50 / images)


def _fitted(points: list[Point], images: int) -> Line | None:
    """Fit by least squares in logits, where each point has the same weight, as Taori et al. do."""
    x = logit(np.array([_inside(point.clean.value, images) for point in points]))
    y = logit(np.array([_inside(point.shifted.value, images) for point in points]))
    if 1 + (np.diff(np.sort(x)) > _SAME).sum() < FEWEST_FOR_A_LINE:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    return Line(float(slope), float(intercept))


def caption(drawn: list[Panel]) -> str:
    """Return words on the axes, and on the lines and the number of points behind each."""
    words = [
        "Top-1 on the clean images of a set's own classes against top-1 on the shifted set, both axes "
        "in logits; bars are 95 % intervals. Grey: y = x, nothing lost."
    ]
    bare = [panel.title for panel in drawn if not panel.line]
    if fitted := [f"{len(p.points)} on {p.title}" for p in drawn if p.line]:
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


def protocol_lines(drawn: list[Panel]) -> list[str]:
    """Return the protocol of all panels, or a line with its mark for each of several."""
    found = dict(sorted((panel.mark, panel.protocol) for panel in drawn))
    return [f"[{mark}] {words}" if mark else words for mark, words in found.items()]


def table_rows(drawn: list[Panel]) -> list[list[str]]:
    """Return the points of all panels as rows under `TABLE_HEADER`."""
    rows = []
    for panel in drawn:
        for point in panel.points:
            above = panel.above_line(point)
            distance = "–" if above is None else f"{above:+.1f}"
            scores = map(_with_interval, (point.clean, point.shifted))
            rows.append([panel.title, point.method, *scores, distance])
    return rows


def _with_interval(number: Number) -> str:
    return f"{number}" + (f" ({number.interval_text(number.interval)})" if number.interval else "")
