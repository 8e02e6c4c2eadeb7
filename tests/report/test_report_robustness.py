"""Effective robustness: the line against SciPy's, its distance by hand, the picture's own pixels."""

import hashlib
import math
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import pytest
import scipy.special
import scipy.stats
from page_reader import Page
from synthetic_results import recorded, result

from micl_bench.records.result import Record, write_result
from micl_bench.records.statistics import wilson
from micl_bench.report import build_report
from micl_bench.report.figures.robustness_plot import found_robustness, robustness_scatter
from micl_bench.report.figures.robustness_points import (
    Panel,
    caption,
    panels,
    protocol_lines,
    table_rows,
)
from micl_bench.report.frame.selection import select

SCORES = {"MiCL": (90.0, 50.0), "far": (80.0, 20.0), "mid": (86.0, 45.0), "near": (70.0, 15.0)}


def shifted(method: str, clean: float, top1: float, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "task": "robustness",
        "method": method,
        "metrics": {"top1": top1, "clean_top1": clean, "drop": clean - top1},
        "intervals": {
            "top1": list(wilson(top1, 900)),
            "clean_top1": list(wilson(clean, 900)),
        },
        "checkpoint": {"digest": method * 12},
        "data": {"name": "set-A"},
        **changes,
    }
    return recorded([result(**values)])[0]


def four() -> list[Record]:
    return [shifted(method, *scores) for method, scores in SCORES.items()]


def test_the_line_is_the_regression_of_logits_and_the_distance_is_in_points() -> None:
    (panel,) = panels(four())
    clean, top1 = np.array(list(SCORES.values())).T / 100
    line = scipy.stats.linregress(scipy.special.logit(clean), scipy.special.logit(top1))
    assert panel.line is not None
    assert (panel.line.slope, panel.line.intercept) == pytest.approx((line.slope, line.intercept))
    expected = scipy.special.expit(line.slope * scipy.special.logit(clean) + line.intercept)
    by_method = {point.method: panel.above_line(point) for point in panel.points}
    wanted = dict(zip(SCORES, 100 * (top1 - expected), strict=True))
    assert by_method == pytest.approx(wanted)
    assert by_method["mid"] > 0 > by_method["far"]
    assert "of the panel themselves, 4 on set-A;" in caption([panel])


def test_points_on_one_line_in_logits_have_no_effective_robustness() -> None:
    clean = [60.0, 75.0, 90.0]
    top1 = [100 * float(scipy.special.expit(0.8 * math.log(c / (100 - c)) - 1)) for c in clean]
    (panel,) = panels([shifted(f"m{c}", c, t) for c, t in zip(clean, top1, strict=True)])
    assert [panel.above_line(point) for point in panel.points] == pytest.approx([0, 0, 0])


@pytest.mark.parametrize(
    "records",
    [
        four()[:2],
        # The same weights twice are one checkpoint.
        [*four()[:2], shifted("MiCL", 90.0, 50.0, recipe_digest="f" * 60)],
        # All of one clean accuracy: no slope.
        [shifted(name, 80.0, top1) for name, top1 in (("a", 10.0), ("b", 20.0), ("c", 30.0))],
        # Of two clean accuracies: any line between them fits.
        [shifted(name, 80.0, top1) for name, top1 in (("a", 10.0), ("b", 20.0), ("c", 30.0))]
        + [shifted("d", 90.0, 40.0)],
    ],
)
def test_too_few_checkpoints_give_no_line_and_the_caption_says_so(records: list[Record]) -> None:
    (panel,) = panels(records)
    assert panel.line is None
    assert panel.above_line(panel.points[0]) is None
    assert "Only y = x is drawn for set-A: a line takes 3 checkpoints" in caption([panel])
    assert "Dashed" not in caption([panel])
    assert {row[-1] for row in table_rows([panel])} == {"–"}


def test_different_fingerprints_never_share_a_panel() -> None:
    half = [
        shifted(method, *scores, settings={"precision": "bfloat16"})
        for method, scores in SCORES.items()
    ]
    drawn = panels([*four(), *half[:2]])
    assert [(len(panel.points), panel.line is None) for panel in drawn] == [(2, True), (4, False)]
    assert [panel.title for panel in drawn] == ["set-A [a]", "set-A [b]"]
    lines = protocol_lines(drawn)
    assert lines[0].startswith("[a] ")
    assert lines[0].endswith("precision: bfloat16")
    assert lines[1].endswith("precision: float32")
    below = robustness_scatter(drawn).get_supxlabel()
    assert "[b] k-NN, k = 20" in below
    assert protocol_lines(panels(four())) == [four()[0].protocol]
    assert {len(panel.points) for panel in panels(four())} == {4}


def test_scores_of_0_and_100_count_as_half_an_image() -> None:
    records = [shifted("a", 100.0, 0.0), *four()]
    (panel,) = panels(records)
    assert panel.drawn(0.0) == pytest.approx(100 * 0.5 / 900)
    assert panel.drawn(100.0) == pytest.approx(100 * 899.5 / 900)
    assert panel.line is not None
    assert all(math.isfinite(panel.above_line(point) or 0) for point in panel.points)
    robustness_scatter([panel])


def test_records_without_both_accuracies_are_not_drawn() -> None:
    real = shifted("a", 1.0, 1.0, metrics={"top1": 80.0, "real_top1": 85.0}, intervals={})
    empty = shifted("b", math.nan, 50.0)
    assert panels([real, empty]) == []


def _axes(panel: Panel):  # type: ignore[no-untyped-def]
    return robustness_scatter([panel]).axes[0]


def test_the_picture_holds_the_points_their_bars_y_equal_x_and_the_line() -> None:
    (panel,) = panels(four())
    axes = _axes(panel)
    for axis in (axes.xaxis, axes.yaxis):
        percent = np.array([0.5, 20.0, 50.0, 99.0])
        logits = scipy.special.logit(percent / 100)
        assert axis.get_transform().transform(percent) == pytest.approx(logits)
        # Ticks are labelled with their percentages.
        ticks = axis.get_ticklocs()
        assert len(ticks) >= 4
        assert [float(label.get_text()) for label in axis.get_ticklabels()] == list(ticks)
    lines = {line.get_label(): line for line in axes.get_lines()}
    x, y = lines["y = x"].get_data()
    assert list(x) == list(y)
    x, y = (scipy.special.logit(np.asarray(ends) / 100) for ends in lines["fitted line"].get_data())
    assert panel.line is not None
    assert y == pytest.approx(panel.line.slope * x + panel.line.intercept)
    (whiskers,) = axes.containers
    segments = [bars.get_segments() for bars in whiskers[2]]
    colours = [bars.get_colors() for bars in whiskers[2]]
    for turn, point in enumerate(panel.points):
        marker = lines[point.method]
        assert marker.get_xydata()[0] == pytest.approx(SCORES[point.method])
        across, along = (bars[turn] for bars in segments)
        for own in colours:
            assert tuple(own[turn]) == matplotlib.colors.to_rgba(marker.get_color())
        for ends, score, limits in (
            (across[:, 0], SCORES[point.method][0], axes.get_xlim()),
            (along[:, 1], SCORES[point.method][1], axes.get_ylim()),
        ):
            assert ends == pytest.approx(wilson(score, 900))
            assert limits[0] < ends.min() < ends.max() < limits[1]
    # Methods differ in colour and in shape.
    for look in ("get_marker", "get_color"):
        assert len({getattr(lines[method], look)() for method in SCORES}) == 4
    # y = x crosses the panel.
    assert axes.get_ylim()[1] > axes.get_xlim()[0]


def test_the_report_shows_the_table_under_the_picture(tmp_path: Path) -> None:
    for record in four():
        write_result(record, tmp_path / "results")
    page = Page(build_report(tmp_path / "results", tmp_path / "report").read_text("utf-8"))
    assert "picture-effective-robustness" in page.ids
    table = next(table for table in page.tables if table[0][-1] == "above the line [points]")
    (panel,) = panels(four())
    assert table[1:] == table_rows([panel])
    markdown = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert "| set-A | mid | 86.0 (83.6–88.1) | 45.0 (41.8–48.3) | +" in markdown


def test_equal_points_are_both_seen() -> None:
    (panel,) = panels([*four(), shifted("twin", *SCORES["MiCL"])])
    drawn = {line.get_label(): line for line in _axes(panel).get_lines()}
    ring, point = drawn["MiCL"], drawn["twin"]
    assert ring.get_markersize() > 1.5 * point.get_markersize()
    assert ring.get_markerfacecolor() == "none"
    assert point.get_markerfacecolor() == point.get_color()


def test_checkpoints_of_one_method_are_named_by_their_weights_in_all_panels() -> None:
    old = shifted("MiCL", 88.0, 40.0, checkpoint={"digest": "0ld" * 20})
    elsewhere = shifted("MiCL", *SCORES["MiCL"], data={"name": "set-R"})
    drawn = panels([*four(), old, elsewhere])
    names = [{point.method for point in panel.points if point.family == "MiCL"} for panel in drawn]
    assert names == [{"MiCL, weights MiCLMiC", "MiCL, weights 0ld0ld0"}, {"MiCL, weights MiCLMiC"}]
    assert "Weights: the first digits of a checkpoint's SHA-256." in caption(drawn)


def test_of_many_checkpoints_the_best_of_each_method_are_drawn_and_the_line_is_through_all(
    tmp_path: Path,
) -> None:
    records = []
    for turn in range(40):
        method = "MiCL" if turn < 20 else f"method {turn % 10}"
        made = result(
            task="robustness",
            method=method,
            metrics={"clean_top1": 60.0 + turn / 2, "top1": 20.0 + turn / 2, "drop": 40.0},
            checkpoint={"digest": hashlib.sha256(bytes([turn])).hexdigest()},
        )
        records.append(made)
    (drawing,) = found_robustness(select(recorded(records))).drawings
    assert len(drawing.table) == 1 + 16
    families = [row[1].partition(",")[0] for row in drawing.table[1:]]
    assert set(families) == {"MiCL", *(f"method {i}" for i in range(10))}
    assert "Drawn are 16 of 40 checkpoints" in drawing.caption
    assert "40 on embedded" in drawing.caption
