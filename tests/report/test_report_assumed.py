"""A number of a checkpoint that does not state everything carries a mark wherever it is shown."""

import csv
import io
import json
import re
from pathlib import Path

from synthetic_results import recorded, result

from micl_bench.records.result import Result, write_result
from micl_bench.report import build_report
from micl_bench.report.audit.explain import as_text, explain
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import build_tables
from micl_bench.report.tables.summary import summary_table
from micl_bench.report.write.export import measurements_csv, provenance_csv
from micl_bench.report.write.latex import to_latex
from micl_bench.report.write.markdown import to_markdown

HEADS = "2 heads (width / 64)"
PIXELS = "ImageNet's mean and std of the pixels"
NOTE = f"assumed, as neither the checkpoint nor the user states it: {HEADS}, {PIXELS}"


def records() -> list[Result]:
    """One whose checkpoint was in part assumed, one that states everything."""
    weights = {"digest": "7" * 64, "guesses": (HEADS, PIXELS)}
    return [
        result(method="rival", metrics={"top1": 41.25}),
        result(method="stranger", metrics={"top1": 62.5}, checkpoint=weights),
    ]


def test_tables_carry_a_footnote_in_every_form() -> None:
    found = records()
    selection = select(recorded(found))
    tables = [table for table in build_tables(selection, []) if table.footnotes]
    marked = [table for table in tables if NOTE in [text for _, text in table.footnotes]]
    assert marked
    for table in marked:
        (mark,) = [mark for mark, text in table.footnotes if text == NOTE]
        cells = {
            row.label: [cell for cell in row.cells if cell.kind == "measured"] for row in table.rows
        }
        assert all(mark in cell.mark.split(",") for cell in cells["stranger"])
        assert not any(mark in cell.mark.split(",") for cell in cells["rival"])
        assert f"62.5<sup>{mark}</sup>" in to_markdown(table).replace("**", "")
        assert f"\\textsuperscript{{{mark}}}" in to_latex(table)
        assert "2 heads (width / 64)" in to_latex(table)


def test_files_of_records_have_a_column_for_it() -> None:
    selection = select(recorded(records()))
    for text in (measurements_csv(selection), provenance_csv(selection)):
        rows = {row["method"]: row for row in csv.DictReader(io.StringIO(text))}
        assert rows["stranger"]["assumed"] == f"{HEADS}; {PIXELS}"
        assert rows["rival"]["assumed"] == ""


def test_the_terminals_summary_marks_it() -> None:
    lines = summary_table(recorded(records())).splitlines()
    (note,) = [line for line in lines if NOTE in line]
    mark = note.partition(" ")[0]
    (row,) = [line for line in lines if "62.5" in line]
    assert row.count(mark) == 1


def test_explain_and_the_card_of_the_page_say_it(tmp_path: Path) -> None:
    found = records()
    for one in found:
        write_result(one, tmp_path / "results")
    runs = recorded(found, tmp_path / "results")
    words = [" ".join(as_text(explain(run, runs, [])).split()) for run in runs]
    assert f"assumed {HEADS}, {PIXELS}: neither the file nor the user states it" in words[1]
    assert "neither the file" not in words[0]
    build_report(tmp_path / "results", tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert json.dumps(HEADS) in page
    assert '"assumed"' in page
    assert f"<sup>a</sup> {NOTE}" in page.replace("&#39;", "'")
    assert re.search(r">62\.5</a>(<span[^>]*>[^<]*</span>)*<sup>a</sup>", page)
