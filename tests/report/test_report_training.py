"""What the caption of the training curves says is in the picture."""

import json
from pathlib import Path

from synthetic_results import recorded, result

from micl_bench.report.figures.render import Drawing
from micl_bench.report.figures.training_plot import found_training
from micl_bench.report.frame.selection import select

DOTTED = "The dotted line is k-NN on the features of the weights at step 0."


def drawn(folder: Path, *logs: tuple[str, int]) -> Drawing:
    """The curves of runs, given by method and the first step at which k-NN was measured."""
    records = []
    for turn, (method, first) in enumerate(logs):
        rows = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
        rows.insert(first, {"step": first, "knn_top1": 50.0})
        name = f"{turn}.jsonl"
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = result(
            task="pretrain",
            method=method,
            metrics={"loss": 1 / 3},
            checkpoint={"digest": f"{turn:064d}"},
            start=f"2025-05-01T10:00:{turn:02d}+00:00",
            artifacts={"metrics": name},
        )
        records.append(made)
    (drawing,) = found_training(select(recorded(records, folder))).drawings
    return drawing


def test_a_line_is_named_where_it_is_drawn_alone(tmp_path: Path) -> None:
    for logs in ([("MiCL", 0)], [("MiCL", 1)], [("MiCL", 0), ("MAE", 0)]):
        drawing = drawn(tmp_path, *logs)
        lines = [line for axes in drawing.draw().axes for line in axes.lines]
        dotted = [line for line in lines if line.get_linestyle() == ":"]
        assert len(dotted) == (DOTTED in drawing.caption)
    assert DOTTED in drawn(tmp_path, ("MiCL", 0)).caption


def test_of_many_runs_it_says_which_are_drawn(tmp_path: Path) -> None:
    drawing = drawn(tmp_path, *[("MiCL", 0)] * 3, *[("MAE", 0)] * 7)
    said = "Drawn are 8 runs, ours first and of a method the newest; 2 are not."
    assert said in drawing.caption
    assert "ours first" not in drawn(tmp_path, ("MiCL", 0), ("MAE", 0)).caption
