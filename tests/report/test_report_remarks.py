"""What a number needs said beside it: that it is undefined, what a user stated, what was not read."""

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import changed, recorded, result
from tables_of import KNN, built, column, of, top1, trained

from micl_bench.records.result import Record, Result, write_result
from micl_bench.records.weights import Stage
from micl_bench.report import build_report, summary_table
from micl_bench.report.audit.explain import as_text, explain
from micl_bench.report.compare.comparison import compare_all
from micl_bench.report.compare.contenders import read_contenders
from micl_bench.runtime.files import digest_json

REASON = "no image of the set has a label"


def undefined(**changes: Any) -> Result:
    return result(metrics={"top1": math.nan}, undefined={"top1": REASON}, **changes)


def notes(table: Any) -> str:
    return " ".join(text for _, text in table.footnotes)


def test_an_undefined_number_is_a_dash_with_its_reason_and_never_the_best() -> None:
    table = built(undefined(), top1(20.0, method="a"), top1(10.0, method="b"))[KNN]
    cells = column(table, "k-NN")
    assert cells["MiCL"].text == "–"
    assert cells["MiCL"].value is None
    assert not cells["MiCL"].best
    assert cells["a"].best
    assert cells["MiCL"].delta == cells["a"].delta == ""
    assert f"undefined: {REASON}" in notes(table)


def test_a_mean_of_which_one_run_is_undefined_is_undefined() -> None:
    runs = [
        of(0, 80.0),
        changed(of(1, math.nan), metrics={"top1": math.nan}, undefined={"top1": REASON}),
    ]
    table = built(*runs)[KNN]
    assert column(table, "k-NN")["MiCL"].text == "–"
    assert f"undefined in 1 of 2 runs: {REASON}" in notes(table)


def test_card_terminal_explain_and_files_say_why(tmp_path: Path) -> None:
    made = undefined()
    path = write_result(made, tmp_path / "results")
    write_result(top1(3.0, method="a"), tmp_path / "results")
    page = build_report(tmp_path / "results", tmp_path / "report").read_text(encoding="utf-8")
    assert page.count(REASON) >= 2
    rows = csv.DictReader((tmp_path / "report" / "tables" / "measurements.csv").open())
    assert {row["value"] for row in rows} == {"", "3.0"}
    assert f"–: {REASON}" in as_text(explain(Record.of(made, path), [], []))
    assert "–" in summary_table(recorded([made]))


def test_compare_does_not_test_what_is_undefined(tmp_path: Path) -> None:
    write_result(undefined(), tmp_path / "a")
    write_result(top1(3.0, method="other"), tmp_path / "b")
    (found,) = compare_all(read_contenders([tmp_path / "a", tmp_path / "b"])).differences
    assert found.verdict == f"not tested: top-1 is undefined: {REASON}"


def stated(seed: int, name: str = "mine") -> Stage:
    stage = trained(seed)
    return dataclasses.replace(
        stage, method=name, stated=True, fingerprint=digest_json(name), settings={}, data="",
        data_digest="", epochs=0,
    )  # fmt: skip


def test_stated_seeds_are_one_row_with_a_footnote() -> None:
    runs = [of(seed, 80.0 + seed, stated(seed), method="mine") for seed in range(3)]
    table = built(*runs, top1(50.0, method="x"))[KNN]
    cells = column(table, "k-NN")
    assert cells["mine"].text == "81.0 ± 1.0"
    assert cells["mine"].runs == 3
    assert "the pre-training mine and its seeds are as the user stated them" in notes(table)


def test_files_of_one_method_that_nobody_relates_are_no_rivals() -> None:
    runs = [top1(80.0 + n, method="mine", checkpoint={"digest": f"{n}" * 64}) for n in range(3)]
    table = built(*runs)[KNN]
    cells = column(table, "k-NN")
    assert len(cells) == 3
    assert not any("p = " in line for cell in cells.values() for line in cell.details)
    assert "how these files of one method relate is not known" in notes(table)


@pytest.mark.parametrize("where", ["data", "train"])
def test_files_that_were_not_read_are_said_under_the_table(where: str, tmp_path: Path) -> None:
    words = "3 of 123 files were not read: notes.txt and 2 more"
    made = top1(70.0)
    data = dataclasses.replace(made.data, left_out=words)
    made = dataclasses.replace(made, **{where: data})
    assert f"not read of embedded, test: {words}" in notes(built(made)[KNN])
    path = write_result(made, tmp_path / "results")
    assert f"left_out {words}" in " ".join(as_text(explain(Record.of(made, path), [], [])).split())
    page = build_report(tmp_path / "results", tmp_path / "report").read_text(encoding="utf-8")
    assert page.count(words) >= 2
