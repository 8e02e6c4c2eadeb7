"""Tables as Markdown, LaTeX and CSV: read back, compiled, and with hostile names."""

import csv
import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import REPOSITORY, Run
from synthetic_results import write_demo
from tables_of import HOURS, KNN, OURS, built, of, published, top1, tuned

from micl_bench.records.published import read_references
from micl_bench.records.store import read_results
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import build_tables
from micl_bench.report.write.export import to_csv, write_tables
from micl_bench.report.write.latex import escaped, to_latex
from micl_bench.report.write.markdown import to_markdown

HOSTILE = (
    '\\input{/etc/passwd} $x^2_3$ 100% A&B #1 {brace} ~tilde `tick` "q" -- --- | <script> '
    "*star* [opt] é ż ß κ µ ± – — † ≈ ٣ 木 \u202e \x1b[31m _under_"
)
"""Signs that LaTeX, Markdown, HTML, terminals or spreadsheets act on, and those of other scripts."""

needs_latex = pytest.mark.skipif(
    shutil.which("pdflatex") is None and not os.environ.get("CI"), reason="no pdflatex"
)


def compiled(folder: Path, name: str = "tables.tex") -> str:
    """What LaTeX says of a document; an error fails the test."""
    run = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", name],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    said = run.stdout.decode(errors="replace")
    assert run.returncode == 0, said[-2000:]
    assert (folder / name).with_suffix(".pdf").stat().st_size > 1000
    return said


@needs_latex
def test_all_tables_of_a_demo_and_of_the_ledger_compile_as_they_are(tmp_path: Path) -> None:
    write_demo(tmp_path / "results")
    selection = select(read_results(tmp_path / "results"))
    tables = build_tables(selection, read_references())
    assert len(tables) >= 10
    write_tables(tmp_path / "tables", tables)
    said = compiled(tmp_path / "tables")
    assert all(f"({'./'}{table.name}.tex" in said.replace("\n", "") for table in tables)


@needs_latex
def test_hostile_names_compile_and_run_nothing(tmp_path: Path) -> None:
    records = [
        top1(80.0, method=HOSTILE, protocol=HOSTILE),
        top1(70.0, method="[x]", protocol="*"),
        top1(60.0, method=HOSTILE * 3, data={"name": HOSTILE, "stands_for": HOSTILE}),
    ]
    write_tables(tmp_path, list(built(*records).values()))
    said = compiled(tmp_path)
    # What TeX opens, it names; the hostile task names a table, `input-etc-passwd-...`.
    assert "/etc/passwd" not in said


@needs_latex
def test_a_table_of_many_columns_and_rows_is_split_and_compiles(tmp_path: Path) -> None:
    names = ("ImageNet-A", "ImageNet-R", "ImageNet-Sketch", "ObjectNet", "ImageNet-ReaL")
    records = [
        tuned(
            task="robustness",
            method=f"method {number}",
            metrics={"top1": 40.0 + number, "clean_top1": 80.0, "drop": 40.0 - number},
            data={"name": f"embedded-{name}", "stands_for": name},
        )
        for name in names[:4]
        for number in range(50)
    ]
    (table,) = [t for name, t in built(*records).items() if name == "robustness-embedded"]
    assert to_latex(table).count("\\begin{longtable}") == 2
    write_tables(tmp_path, [table])
    compiled(tmp_path)


def test_latex_uses_booktabs_and_groups() -> None:
    text = to_latex(built(top1(80.0), top1(70.0, method="random weights"))[KNN])
    for sign in ("\\toprule", "\\midrule", "\\bottomrule", "\\cmidrule(lr)", "\\multicolumn{1}{c}"):
        assert sign in text
    assert "\\textbf{80.0}" in text
    assert "{\\scriptsize +10.0}" in text


def test_latex_text_by_hand() -> None:
    assert escaped("50% of A&B_1 #2") == r"50\% of A\&B\_1 \#2"
    assert escaped("\\end{x}") == r"\textbackslash{}end\{x\}"
    assert escaped("83.6 ± 0.1, 80–81 †") == r"83.6 $\pm$ 0.1, 80--81 $\dagger$"
    assert escaped("é ü ñ") == r"\'{e} \"{u} \~{n}"
    assert escaped("κ ٣") == r"$\kappa$ \texttt{U+0663}"
    assert "--" not in escaped("a -- b --- c")
    assert escaped(HOSTILE).isascii()


def cells_of(line: str) -> list[str]:
    """Of a Markdown row, by the bars that are not escaped."""
    return [one.strip() for one in line.replace("\\|", "\0").strip("|").split("|")]


def test_markdown_rows_have_a_cell_for_each_column() -> None:
    references = [published(), OURS, HOURS]
    table = built(tuned(metrics={"top1": 84.0}, method=HOSTILE), references=references)["finetune"]
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(table.rows)
    assert {len(cells_of(line)) for line in lines} == {len(table.columns) + 2}
    assert "<script>" not in to_markdown(table)
    (ours,) = [line for line in lines if "as OCL" in line]
    assert "†" in ours
    assert "n/a" in ours


def test_csv_gives_full_precision_and_the_records_behind_each_number() -> None:
    values = [80.123456789, 81.5, 83.0]
    table = built(*(of(seed, value) for seed, value in enumerate(values)))[KNN]
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    (row,) = [row for row in rows if row["column"] == "k-NN"]
    assert float(row["value"]) == sum(values) / 3
    assert int(row["runs"]) == 3
    assert float(row["low_95"]) < float(row["value"]) < float(row["high_95"])
    assert len(row["records"].split()) == 3
    assert row["kind"] == "measured"


def test_csv_gives_published_numbers_their_source_and_no_formula_runs() -> None:
    table = built(tuned(method="=cmd|' /C calc'!A0"), references=[published()])["finetune"]
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert {row["source"] for row in rows if row["kind"] == "published"} >= {published().source}
    assert not any(row["row"].startswith("=") for row in rows)


def test_every_metric_of_every_record_is_in_a_file(tmp_path: Path) -> None:
    records = write_demo(tmp_path / "results")
    selection = select(read_results(tmp_path / "results"))
    write_tables(tmp_path / "tables", build_tables(selection, []), selection)
    with (tmp_path / "tables" / "measurements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = {(row["record"], row["metric"]): float(row["value"]) for row in rows}
    expected = {(one.id, name): value for one in records for name, value in one.values.items()}
    assert told == expected
    with (tmp_path / "tables" / "provenance.csv").open(newline="") as file:
        assert [row["record"] for row in csv.DictReader(file)] == [
            result.id for result in selection.records
        ]


def test_the_ledgers_tables_are_those_that_the_command_makes(
    micl_bench: Run, tmp_path: Path
) -> None:
    run = micl_bench("report", "--out", str(tmp_path / "tables"))
    assert run.returncode == 0, run.stderr
    kept = REPOSITORY / "results" / "tables"
    made = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "tables").iterdir()}
    assert made == {path.name: path.read_text(encoding="utf-8") for path in kept.glob("*.md")}
