"""Bars, training curves, ablation curves: what is drawn of records, under which names and colours."""

import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pretrainings import Trainings
from synthetic_results import changed, recorded, result
from tables_of import of, top1

from micl_bench.records.result import Result
from micl_bench.records.statistics import t_interval, wilson
from micl_bench.report.figures.ablation_plot import AXES, ablation_panels, found_ablations
from micl_bench.report.figures.palette import method_colours
from micl_bench.report.figures.panels import wrapped
from micl_bench.report.figures.render import Drawing, rendered
from micl_bench.report.figures.scores_plot import found_scores
from micl_bench.report.figures.training_plot import found_training, training_curves
from micl_bench.report.frame.selection import select


def test_a_well_known_method_has_one_colour_in_all_figures() -> None:
    alone = method_colours({"MAE"})["MAE"]
    for others in ({"DINO"}, {"MiCL", "iBOT", "I-JEPA"}, {"a", "b", "z"}):
        assert method_colours({"MAE", *others})["MAE"] == alone


def test_the_methods_of_a_figure_have_colours_of_their_own_while_there_are_enough() -> None:
    known = {"MiCL", "from scratch", "random weights", "MAE", "DINO", "iBOT"}
    for unknown in ({"mine"}, {"mine", "yours", "Theirs"}):
        methods = known | unknown
        colours = method_colours(methods)
        assert len({colours[method] for method in methods}) == len(methods)
    many = {f"method {number}" for number in range(20)}
    assert many <= method_colours(many).keys()


def bars(*results: Result) -> Figure:
    (drawing,) = found_scores(select(recorded(results))).drawings
    return drawing.draw()


def test_bars_stand_centred_and_groups_in_order() -> None:
    made = [result(protocol=words, method=m) for words in "cab" for m in ("MiCL", "x")]
    axes = bars(*made, result(protocol="d", method="alone")).axes[0]
    names = [label.get_text().splitlines()[-1] for label in axes.get_xticklabels()]
    assert names == ["[a]", "[b]", "[c]", "[d]"]
    middles = sorted(bar.get_x() + bar.get_width() / 2 for bar in axes.patches)
    pairs = [middles[0:2], middles[2:4], middles[4:6]]
    assert [sum(pair) / 2 for pair in pairs] == pytest.approx([0, 1, 2])
    assert middles[6] == pytest.approx(3)


def test_a_mean_of_which_one_run_is_undefined_has_no_bar() -> None:
    undefined = {"metrics": {"top1": np.nan}, "undefined": {"top1": "no image has a label"}}
    runs = [of(0, 80.0), changed(of(1, 80.0), **undefined)]
    figure = bars(*runs, *(top1(9.0, method=method) for method in ("a", "b")))
    assert len(figure.axes[0].patches) == len(figure.axes[0].texts) == 2


@pytest.mark.parametrize("groups", [2, 3, 6, 9, 10, 11, 12, 24])
@pytest.mark.parametrize("name", ["embedded-Sketch-{}", "a-rather-long-name-{:02d}"])
def test_names_below_bars_neither_collide_nor_leave_the_picture(groups: int, name: str) -> None:
    figure = bars(*(result(data={"name": name.format(i)}) for i in range(groups)))
    FigureCanvasAgg(figure).draw()
    texts = figure.axes[0].get_xticklabels()
    if texts[0].get_rotation():
        assert groups > 10
        return
    boxes = [text.get_window_extent() for text in texts]
    gaps = [after.x0 - before.x1 for before, after in itertools.pairwise(boxes)]
    assert min(gaps) > 0.04 * figure.dpi
    assert boxes[-1].x1 <= figure.bbox.x1


@pytest.mark.parametrize("groups", [1, 6, 10, 11, 24])
def test_a_name_below_bars_is_broken_between_words_alone(groups: int) -> None:
    shifted = {"task": "robustness", "metrics": {"top1": 30.0, "clean_top1": 60.0}}
    made = [result(**shifted, data={"name": f"embedded-Set_{i:02d}"}) for i in range(groups)]
    figure = bars(*made)
    texts = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    for number, text in enumerate(texts):
        *name, task, metric = re.split(r"\n|, ", text)
        assert (task, metric) == ("robustness", "top-1")
        assert "-".join(name).replace("--", "-").replace("_-", "_") == f"embedded-Set_{number:02d}"
    # The picture of slanted names is higher, so that its bars are as high as others.
    slanted = bool(figure.axes[0].get_xticklabels()[0].get_rotation())
    assert slanted == (groups > 10) == (figure.get_figheight() > 4)


def test_titles_of_panels_are_broken_between_words_alone() -> None:
    assert wrapped("robustness, embedded-Sketch [a]", 12) == "robustness,\nembedded-\nSketch [a]"
    assert wrapped("a word_that_no_line_holds", 12) == "a\nword_that..."


def test_a_name_of_any_length_leaves_pictures_as_wide_as_they_are() -> None:
    def width(name: str) -> int:
        (png,) = rendered(lambda: bars(result(), result(method=name)), ["png"])
        with Image.open(io.BytesIO(png)) as image:
            return image.width

    assert width("x" * 10_000) < 1.2 * width("x" * 20)


DOTTED = "The dotted line is k-NN on the features of the weights at step 0."


def trained(folder: Path, *logs: tuple[str, int]) -> Drawing:
    """The curves of runs, given by method and the first step at which k-NN was measured."""
    records = []
    for turn, (method, first) in enumerate(logs):
        rows = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
        rows.insert(first, {"step": first, "knn_top1": 50.0})
        (folder / f"{turn}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = result(
            task="pretrain", method=method, metrics={"loss": 1 / 3},
            checkpoint={"digest": f"{turn:064d}"}, start=f"2025-05-01T10:00:{turn:02d}+00:00",
            artifacts={"metrics": f"{turn}.jsonl"},
        )  # fmt: skip
        records.append(made)
    (drawing,) = found_training(select(recorded(records, folder))).drawings
    return drawing


def test_a_line_is_named_where_it_is_drawn_alone(tmp_path: Path) -> None:
    for logs in ([("MiCL", 0)], [("MiCL", 1)], [("MiCL", 0), ("MAE", 0)]):
        drawing = trained(tmp_path, *logs)
        lines = [line for axes in drawing.draw().axes for line in axes.lines]
        dotted = [line for line in lines if line.get_linestyle() == ":"]
        assert len(dotted) == (DOTTED in drawing.caption) == (logs == [("MiCL", 0)])


def test_of_many_runs_it_says_which_are_drawn(tmp_path: Path) -> None:
    drawing = trained(tmp_path, *[("MiCL", 0)] * 3, *[("MAE", 0)] * 7)
    said = "Drawn are 8 runs, ours first and of a method the newest; 2 are not."
    assert said in drawing.caption
    assert "ours first" not in trained(tmp_path, ("MiCL", 0), ("MAE", 0)).caption


def test_without_knn_there_is_no_empty_panel() -> None:
    rows = [{"step": step, "loss": 1.0} for step in range(5)]
    scored = [*rows, {"step": 5, "knn_top1": 50.0}]
    for logs, panels in (([rows], 1), ([scored], 2), ([rows, scored], 2)):
        runs = {str(i): (str(i), log) for i, log in enumerate(logs)}
        assert len(training_curves(runs).axes) == panels


def test_one_curve_is_of_runs_that_differ_in_the_axis_alone() -> None:
    made = Trainings()
    for seed, score in enumerate((80.0, 81.0, 83.0)):
        made.add(score, seed=seed, mask_ratio=0.5)
    made.add(75.0, mask_ratio=0.75)
    made.add(70.0, mask_ratio=0.9, num_views=4)  # Differs in two.
    made.add(71.0, mask_ratio=0.75, method="other")
    panels = ablation_panels(made.selection)["mask-ratio"]
    assert [(p.group.label, len(p.curves)) for p in panels] == [("k-NN", 1), ("linear probe", 1)]
    (low, five), (high, single) = panels[0].curves[0].points
    assert (low, high) == (0.5, 0.75)
    assert five.mean == pytest.approx(np.mean([80.0, 81.0, 83.0]))
    assert five.interval == pytest.approx(t_interval([80.0, 81.0, 83.0]))
    assert single.interval == pytest.approx(wilson(75.0, 900))
    assert panels[0].curves[0].label == ""


def test_curves_are_named_by_what_differs_between_them() -> None:
    made = Trainings()
    for views, ratio in itertools.product((2, 4), (0.5, 0.75)):
        made.add(80.0 + views, mask_ratio=ratio, num_views=views)
    panels = ablation_panels(made.selection)["mask-ratio"]
    assert sorted(c.label for c in panels[0].curves) == ["num views 2", "num views 4"]


def test_an_axis_that_was_varied_has_a_picture_words_are_dots_and_numbers_a_line() -> None:
    made = Trainings()
    made.add(80.0)
    assert not found_ablations(made.selection).drawings
    made.add(82.0, negatives="global")
    made.add(84.0, epochs=40)
    found = found_ablations(made.selection)
    assert [d.name for d in found.drawings] == ["ablation-negatives", "ablation-epochs"]
    assert {"negatives", "epochs"} < AXES.keys()
    assert "says nothing of another seed" in found.drawings[0].caption
    lines = []
    for drawing in found.drawings:
        axes = drawing.draw().axes[0]
        line = axes.containers[0].lines[0]  # type: ignore[attr-defined]
        ticks = [label.get_text() for label in axes.get_xticklabels()]
        lines.append((line.get_linestyle(), line.get_ydata().tolist(), ticks))
    assert lines[0] == ("None", [80.0, 82.0], ["device", "global"])
    assert lines[1] == ("-", [80.0, 84.0], ["10", "40"])
    one, two = (rendered(found.drawings[0].draw, ["png", "pdf"]) for _ in range(2))
    assert one == two
