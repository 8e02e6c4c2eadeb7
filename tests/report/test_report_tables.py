"""The readers' tables: expectations by hand, and what must never share a cell, a row or a mark."""

import csv
import dataclasses
import io
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from predicted_results import right, write
from synthetic_results import result
from tables_of import KNN, built, column, of, trained

from micl_bench.records.result import DataSet
from micl_bench.records.statistics import holm, mcnemar
from micl_bench.records.store import read_results
from micl_bench.records.weights import Stage
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import build_tables
from micl_bench.report.write.export import to_csv
from micl_bench.report.write.latex import to_latex
from micl_bench.report.write.markdown import to_markdown

DENSE = (("ade20k", "mIoU"), ("coco", "box_AP"))


# Statistics


def test_seeds_give_mean_deviation_and_students_interval() -> None:
    values = [80.0, 81.5, 83.0]
    table = built(*(of(seed, value) for seed, value in enumerate(values)))[KNN]
    (cell,) = column(table, "k-NN").values()
    assert cell.text == "81.5 ± 1.5"
    assert cell.value == 81.5
    assert cell.deviation == statistics.stdev(values)
    half = scipy.stats.t.ppf(0.975, 2) * 1.5 / math.sqrt(3)
    assert cell.interval == pytest.approx((81.5 - half, 81.5 + half))
    assert cell.runs == 3
    assert len(cell.records) == 3
    assert "3 seeds" in cell.details


def test_one_run_has_the_interval_over_its_images() -> None:
    record = result()
    (cell,) = column(built(record)[KNN], "k-NN").values()
    assert (cell.text, cell.deviation, cell.runs) == ("80.0", None, 1)
    assert cell.interval == record.metrics["top1"].interval


def test_runs_of_one_checkpoint_count_once_among_several_checkpoints() -> None:
    """Nested seeds: the values are the checkpoints' means."""
    nested = [
        of(0, 80.0, trained(0)),
        dataclasses.replace(of(0, 82.0, trained(0)), seed=5),
        of(1, 85.0, trained(1)),
    ]
    (cell,) = column(built(*nested)[KNN], "k-NN").values()
    assert (cell.value, cell.runs) == (83.0, 2)
    assert cell.deviation == pytest.approx(statistics.stdev([81.0, 85.0]))
    assert len(cell.records) == 3


def test_evaluation_seeds_of_a_checkpoint_of_unknown_origin_are_averaged() -> None:
    records = [result(seed=seed, metrics={"top1": 80.0 + seed}) for seed in (0, 1)]
    (cell,) = column(built(*records)[KNN], "k-NN").values()
    assert cell.text == "80.5 ± 0.7"
    assert "2 seeds of one checkpoint" in cell.details


def test_a_seed_that_changes_nothing_is_no_run() -> None:
    (cell,) = column(built(result(seed=0), result(seed=1))[KNN], "k-NN").values()
    assert (cell.text, cell.runs, len(cell.records)) == ("80.0", 1, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((), ()),  # Nobody knows how either was made.
        ((trained(0, task="finetune"),), (trained(1, task="finetune"),)),  # Nor the weights before.
        ((trained(0),), (trained(1, epochs=20),)),
        ((trained(0),), (dataclasses.replace(trained(1), data_digest="f" * 64),)),
    ],
)
def test_checkpoints_that_may_be_made_differently_are_never_averaged(
    one: tuple[Stage, ...], other: tuple[Stage, ...]
) -> None:
    records = [
        of(seed, 80.0 + seed, checkpoint={"origin": origin})
        for seed, origin in enumerate((one, other))
    ]
    cells = column(built(*records)[KNN], "k-NN")
    assert len(cells) == 2
    assert sorted(cell.text for cell in cells.values()) == ["80.0", "81.0"]
    assert all(cell.deviation is None for cell in cells.values())


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"precision": "bfloat16"}},
        {"protocol": "other words"},
        {"train": DataSet(name="t", split="train", images=5, digest="t" * 64)},
        {"data": {"digest": "f" * 64}},
    ],
)
def test_other_protocols_and_images_share_no_cell_and_no_contest(change: dict[str, Any]) -> None:
    table = built(of(0, 80.0), of(1, 81.0, **change), of(2, 85.0, method="x", **change))[KNN]
    (number,) = [i for i, one in enumerate(table.columns) if one.header == "k-NN"]
    cells = [row.cells[number] for row in table.rows]
    assert sorted(cell.text for cell in cells) == ["80.0", "81.0", "85.0"]
    notes = dict(table.footnotes)
    by_text = {cell.text: cell for cell in cells}
    marks = {text: cell.mark.split(",")[0] for text, cell in by_text.items()}
    assert marks["80.0"] != marks["81.0"] == marks["85.0"]
    assert notes[marks["80.0"]] != notes[marks["81.0"]]
    assert [text for text, cell in by_text.items() if cell.best] == ["85.0"]


# Best, tied, differences


def test_the_best_of_a_network_and_protocol_is_marked_and_untested_rivals_are_said_to_be() -> None:
    records = [
        result(metrics={"top1": 80.0}),
        result(metrics={"top1": 79.9}, method="x"),
        result(metrics={"top1": 99.0}, method="big", arch="vit_large_patch16_224"),
    ]
    table = built(*records)[KNN]
    cells = column(table, "k-NN")
    assert [label for label, cell in cells.items() if cell.best] == ["MiCL"]
    assert not any(cell.tied for cell in cells.values())
    assert cells["big"].mark == ""
    assert dict(table.footnotes)[cells["x"].mark].startswith("not tested against the best: ")


def test_equal_best_values_are_both_marked() -> None:
    cells = column(
        built(result(), result(method="x"), result(method="y", metrics={"top1": 1.0}))[KNN], "k-NN"
    )
    assert [label for label, cell in cells.items() if cell.best] == ["MiCL", "x"]


def test_not_a_number_is_a_dash_and_never_best() -> None:
    cells = column(
        built(
            result(metrics={"top1": math.nan}),
            result(method="a"),
            result(method="b", metrics={"top1": 1.0}),
        )[KNN],
        "k-NN",
    )
    assert (cells["MiCL"].text, cells["MiCL"].value, cells["MiCL"].best) == ("–", None, False)
    assert cells["a"].best


def test_of_an_error_the_lowest_is_best() -> None:
    data = {"name": "ImageNet-C", "split": "all", "images": 75 * 50_000}
    records = [
        result(task="robustness", metrics={"mCE": mce}, method=method, data=data)
        for method, mce in (("MiCL", 50.0), ("x", 60.0))
    ]
    cells = column(built(*records)["robustness"], "mCE [%]")
    assert [label for label, cell in cells.items() if cell.best] == ["MiCL"]


def test_paired_tests_with_holms_method_decide_what_is_tied(tmp_path: Path) -> None:
    shares = {"MiCL": right(0.80, 0), "near": right(0.79, 1), "far": right(0.5, 2)}
    for method, correct in shares.items():
        write(tmp_path / method, {"top1": correct}, method=method)
    tables = build_tables(select(read_results(tmp_path)), [])
    (table,) = [one for one in tables if one.name == KNN]
    cells = column(table, "k-NN")
    best = max(shares, key=lambda name: int(shares[name].sum()))
    others = [name for name in shares if name != best]
    p_values = [
        mcnemar(int((shares[best] > shares[n]).sum()), int((shares[best] < shares[n]).sum()))
        for n in others
    ]
    expected = dict(zip(others, holm(p_values), strict=True))
    assert expected["far"] < 0.05 < expected[next(n for n in others if n != "far")]
    assert cells[best].best
    for name, p in expected.items():
        assert cells[name].tied == (p > 0.05)
        shown = next(line for line in cells[name].details if line.startswith("p = "))
        assert float(shown[4:]) == pytest.approx(p, rel=0.06, abs=6e-5)
    (tied,) = [name for name in others if cells[name].tied]
    note = dict(table.footnotes)[cells[tied].mark]
    assert note == "no difference from the best is shown: McNemar, Holm's method over 2 tests"


def test_welchs_test_over_seeds_agrees_with_scipy() -> None:
    ours, theirs = [80.0, 81.0, 82.0], [79.0, 80.5, 81.0]
    records = [of(seed, value) for seed, value in enumerate(ours)]
    records += [of(10 + seed, value, method="x") for seed, value in enumerate(theirs)]
    cells = column(built(*records)[KNN], "k-NN")
    p = scipy.stats.ttest_ind(ours, theirs, equal_var=False).pvalue
    assert cells["x"].tied
    assert f"p = {p:.4f}" in cells["x"].details


def test_differences_are_from_the_declared_baseline_of_the_same_protocol() -> None:
    records = [
        result(metrics={"top1": 80.0}),
        result(metrics={"top1": 30.5}, method="random weights"),
        result(metrics={"top1": 70.0}, method="x", settings={"precision": "other"}),
    ]
    table = built(*records)[KNN]
    cells = column(table, "k-NN")
    assert {label: cell.delta for label, cell in cells.items()} == {
        "MiCL": "+49.5",
        "random weights": "",
        "x": "",
    }
    assert cells["MiCL"].difference == "+49.5 points against random weights"
    assert "With a sign: points against random weights." in table.caption


def test_a_signed_difference_names_its_reference_in_every_form() -> None:
    records = [
        result(task="finetune", metrics={"top1": top1}, method=method, settings={"k": setting})
        for method, top1, setting in (
            ("MiCL", 80.0, 1),
            ("random weights", 30.5, 1),
            ("MAE", 70.0, 2),
            ("from scratch", 61.0, 2),
        )
    ]
    table = built(*records)["finetune-embedded"]
    assert "+49.5 points against random weights" in to_markdown(table)
    assert "+9.0 points against from scratch" in to_markdown(table)
    # Where one caption cannot name both, each number does.
    assert "+49.5 points against random weights" in to_latex(table)
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    differences = {(row["difference"], row["against"]) for row in rows if row["difference"]}
    assert differences == {
        ("+49.5", "points against random weights"),
        ("+9.0", "points against from scratch"),
    }


@pytest.mark.parametrize("name", ["flowers", "my imagenet of cats", "Birds-200"])
def test_nobody_s_own_images_are_called_imagenet(name: str) -> None:
    data = {"name": name, "images": 120}
    tables = built(
        *(result(task=task, data=data, protocol=task) for task in ("knn", "linear", "finetune")),
        *(result(task=task, metrics={m: 3.0}, data=data) for task, m in DENSE),
    )
    own = {name: table for name, table in tables.items() if not name.endswith("-published")}
    assert len(own) == 4
    for table in own.values():
        keys = " ".join(column.key + column.header + column.group for column in table.columns)
        words = f"{table.title} {table.caption} {keys}".replace(name, "")
        assert name in table.title
        assert not [word for word in ("imagenet", "on ade20k", "on coco") if word in words.lower()]


def test_public_images_keep_their_heading() -> None:
    data = {"name": "imagenet", "split": "val", "images": 50_000}
    table = built(result(task="finetune", data=data))["finetune"]
    assert table.title.startswith("ImageNet fine-tuning")
