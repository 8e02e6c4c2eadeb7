"""Ablation curves: which runs are one curve, and where their points and whiskers are."""

import numpy as np
import pytest
from pretrainings import Trainings

from micl_bench.records.statistics import t_interval, wilson
from micl_bench.report.figures.ablation_plot import (
    ablation_curves,
    ablation_panels,
    axes_by_name,
    found_ablations,
)
from micl_bench.report.figures.render import rendered


def test_one_curve_is_of_runs_that_differ_in_the_axis_alone() -> None:
    made = Trainings()
    for seed, top1 in enumerate((80.0, 81.0, 83.0)):
        made.add(top1, seed=seed, mask_ratio=0.5)
    made.add(75.0, mask_ratio=0.75)
    made.add(70.0, mask_ratio=0.9, num_views=4)  # Differs in two.
    made.add(71.0, mask_ratio=0.75, method="other")
    panels = ablation_panels(made.selection, axes_by_name()["mask-ratio"])
    assert [(p.label, len(p.curves)) for p in panels] == [("k-NN", 1), ("linear probe", 1)]
    (low, five), (high, single) = panels[0].curves[0].points
    assert (low, high) == (0.5, 0.75)
    assert five.mean == pytest.approx(np.mean([80.0, 81.0, 83.0]))
    assert five.interval == pytest.approx(t_interval([80.0, 81.0, 83.0]))
    assert single.interval == pytest.approx(wilson(75.0, 900))
    assert panels[0].curves[0].label == ""


def test_curves_are_named_by_what_differs_between_them() -> None:
    made = Trainings()
    for views in (2, 4):
        for ratio in (0.5, 0.75):
            made.add(80.0 + views, mask_ratio=ratio, num_views=views)
    panels = ablation_panels(made.selection, axes_by_name()["mask-ratio"])
    assert sorted(c.label for c in panels[0].curves) == ["num views 2", "num views 4"]


def test_words_are_dots_and_numbers_a_line() -> None:
    made = Trainings()
    made.add(80.0)
    made.add(82.0, negatives="global")
    made.add(84.0, epochs=40)
    lines = {}
    for name in ("negatives", "epochs"):
        axis = axes_by_name()[name]
        axes = ablation_curves(axis, ablation_panels(made.selection, axis)).axes[0]
        line = axes.containers[0].lines[0]  # type: ignore[attr-defined]
        ticks = [label.get_text() for label in axes.get_xticklabels()]
        lines[name] = (line.get_linestyle(), line.get_ydata().tolist(), ticks)
    assert lines["negatives"] == ("None", [80.0, 82.0], ["device", "global"])
    assert lines["epochs"] == ("-", [80.0, 84.0], ["10", "40"])


def test_a_report_has_a_picture_for_each_axis_that_was_varied() -> None:
    made = Trainings()
    made.add(80.0)
    assert not found_ablations(made.selection).drawings
    made.add(82.0, negatives="global")
    made.add(84.0, epochs=40)
    found = found_ablations(made.selection)
    assert [d.name for d in found.drawings] == ["ablation-negatives", "ablation-epochs"]
    assert "says nothing of another seed" in found.drawings[0].caption
    one, two = (rendered(found.drawings[0].draw, ["png", "pdf"]) for _ in range(2))
    assert one == two
