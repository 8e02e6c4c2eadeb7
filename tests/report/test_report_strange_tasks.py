"""A task that this version does not know is reported by what its records say of it."""

import dataclasses
from pathlib import Path

import pytest
from synthetic_results import recorded, result

from micl_bench.records.declared import About, Number
from micl_bench.records.result import Result, write_result
from micl_bench.report.compare.comparison import compare_all
from micl_bench.report.compare.contenders import read_contenders
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import build_tables
from micl_bench.report.tables.model import Table
from micl_bench.report.tables.summary import summary_table

ABOUT = About(title="Depth of rooms", short="depth", place=5)


def depth(error: float, method: str = "MiCL", **changes: object) -> Result:
    number = Number(
        value=error,
        title="error",
        unit="m",
        better="lower",
        quoted=True,
        low=error - 0.1,
        high=error + 0.1,
    )
    made = result(task="depth", method=method, about=ABOUT, metrics={}, **changes)
    return dataclasses.replace(made, metrics={"rmse": number})


def table_of(*records: Result) -> Table:
    tables = build_tables(select(recorded(records)), [])
    return next(table for table in tables if table.name == "depth-embedded")


def test_it_has_a_table_with_its_title_metrics_and_units() -> None:
    table = table_of(depth(0.5), depth(0.4, "rival"))
    assert table.title == "Depth of rooms: embedded"
    column = table.columns[-1]
    assert (column.header, column.higher_is_better) == ("error [m]", False)
    assert {row.label: row.cells[-1].text for row in table.rows} == {"MiCL": "0.5", "rival": "0.4"}


@pytest.mark.parametrize(("ours", "best"), [(0.3, "MiCL"), (0.5, "rival")])
def test_a_metric_that_says_lower_is_ranked_so_in_every_view(
    tmp_path: Path, ours: float, best: str
) -> None:
    records = [depth(ours), depth(0.4, "rival")]
    assert [row.label for row in table_of(*records).rows if row.cells[-1].best] == [best]
    (line,) = (
        line for line in summary_table(recorded(records)).splitlines() if "error [m]" in line
    )
    assert f"{0.4 if best == 'rival' else ours}*" in line
    assert line.count("*") == 1
    for name, errors in (("a", (ours, ours + 0.01)), ("b", (0.9, 0.91))):
        for seed, error in enumerate(errors):
            write_result(depth(error, name, seed=seed), tmp_path / name)
    (found,) = compare_all(read_contenders([tmp_path / name for name in "ab"])).differences
    assert found.verdict == "A is better"
