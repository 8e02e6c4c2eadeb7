"""What counts, what is stale, what is damaged, and what is missing."""

import dataclasses
from pathlib import Path

import pytest
from synthetic_results import result

from micl_bench.records.plans import RUN_FILE, Plan, PlannedRun, write_plan
from micl_bench.records.result import write_result
from micl_bench.report import build_report
from micl_bench.report.audit.faults import Faults
from micl_bench.report.frame.inventory import describe, take_inventory
from micl_bench.report.tables.overview import missing_table, overview_table, sentences
from micl_bench.runtime.errors import InputError

RUN = PlannedRun(
    name="knn/MiCL", task="knn", method="MiCL", seed=0, data="x", folder="new", state="done"
)


def test_records_of_runs_that_are_planned_anew_are_stale_and_do_not_count(tmp_path: Path) -> None:
    old = result(metrics={"top1": 1.0})
    new = result(metrics={"top1": 2.0}, settings={"k": 10})
    own = result(metrics={"top1": 3.0}, method="by hand")
    for folder, record in (("old", old), ("new", new), ("own", own)):
        write_result(record, tmp_path / folder)
    for folder in ("old", "new"):
        (tmp_path / folder / RUN_FILE).write_text(f'{{"name": "{RUN.name}"}}')
    assert not take_inventory(tmp_path).stale
    write_plan(tmp_path, Plan(suite="s", runs=(RUN,)))
    inventory = take_inventory(tmp_path)
    assert inventory.stale == {old.id}
    assert {record.id for record in inventory.selection.current} == {new.id, own.id}
    assert inventory.status(old.id) == "stale"
    assert "1 record is stale" in " ".join(sentences(inventory, Faults(damaged=[], gone=[])))
    # Another suite's plan might have kept it, had it not been damaged.
    (tmp_path / "plans" / "other.json").write_text("{")
    assert not take_inventory(tmp_path).stale


def test_missing_runs_are_listed_and_shown_where_their_number_would_be(tmp_path: Path) -> None:
    write_result(result(), tmp_path)
    write_result(result(task="linear", method="x"), tmp_path)
    to_do = dataclasses.replace(RUN, task="linear", name="linear/MiCL", state="to do")
    failed = dataclasses.replace(to_do, name="b", state="failed", problem="no space left")
    other = dataclasses.replace(to_do, name="c", task="coco", method="never run")
    write_plan(tmp_path, Plan(suite="s", runs=(RUN, to_do, failed, other)))
    inventory = take_inventory(tmp_path)
    table = missing_table(inventory)
    assert [row.label for row in table.rows] == ["linear/MiCL", "b", "c"]
    assert "no space left" in [cell.text for cell in table.rows[1].cells]
    overview = overview_table(inventory)
    cells = {row.label: [(c.text, c.details) for c in row.cells] for row in overview.rows}
    assert cells["MiCL"][1] == ("n/a", ("1 failed", "1 to do"))
    assert cells["never run"][-1] == ("n/a", ("1 to do",))
    assert "Suite s: 1 done, 1 failed, 2 to do." in sentences(
        inventory, Faults(damaged=[], gone=[])
    )


def test_several_records_of_a_cell_give_a_range_and_never_a_mean(tmp_path: Path) -> None:
    for seed, score in enumerate((70.0, 90.0, 71.0)):
        write_result(result(seed=seed, metrics={"top1": score}), tmp_path)
    (row,) = overview_table(take_inventory(tmp_path)).rows
    assert row.cells[0].text == "70.0–90.0"
    assert row.cells[0].details == ("3 records",)
    assert len(row.cells[0].records) == 3


def test_damaged_files_are_named_without_the_place_of_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "results"
    good = write_result(result(), store / "deep")
    text = good.read_text(encoding="utf-8")
    (store / "changed.json").write_text(text.replace('"seed": 0', '"seed": 5'))
    (store / "cut.json").write_text(text[:300])
    write_plan(store, Plan(suite="good", runs=()))
    (store / "plans" / "s.json").write_text("{")
    inventory = take_inventory(store)
    names = [name for name, _ in inventory.damaged]
    assert names == ["changed.json", "cut.json", "plans/s.json"]
    assert not any(str(tmp_path) in reason for _, reason in inventory.damaged)
    assert inventory.damaged[2][1].startswith("no plan of a suite: ")
    # The others still count.
    assert [plan.suite for plan in inventory.plans] == ["good"]
    assert len(describe(inventory)) == 4
    html = build_report(store, tmp_path / "report").read_text(encoding="utf-8")
    assert "changed.json" in html
    assert str(tmp_path) not in html
    assert "skipped: changed.json: " in capsys.readouterr().err


def test_a_store_without_a_readable_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no readable record below .* \(0 damaged\)"):
        take_inventory(tmp_path)
    (tmp_path / "x.json").write_text('{"schema": "micl-bench/result/4"')
    with pytest.raises(InputError, match=r"1 damaged; x\.json: "):
        take_inventory(tmp_path)
