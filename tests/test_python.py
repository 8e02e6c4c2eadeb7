"""Everything from Python: the same numbers as from the command line, and tables of them."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support import REPOSITORY, Run

import micl_bench
from micl_bench.records.result import read_result

ARCH = "vit_demo_patch4_32"
K = {"overrides": ["k=5"]}
KNN = {"recipe": "embedded_knn", **K}


@pytest.fixture(scope="module")
def two_records(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """k-NN of two networks, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("results")
    for name, pool in (("cls", []), ("other", ["seed=1"])):
        micl_bench.evaluate(
            *("knn", f"random:{ARCH}"),
            data=few_digits,
            recipe="embedded_knn",
            out=folder / name,
            overrides=["k=5", *pool],
            method=name,
        )
    return folder


@pytest.fixture
def typed_command(micl_bench: Run) -> Run:
    """The fixture of the command line, whose name the package has here."""
    return micl_bench


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, micl_bench; micl_bench.InputError; "
        "print(sorted({'torch', 'pandas', 'timm', 'sklearn', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_has_a_docstring_with_all_parts() -> None:
    for name in micl_bench.__all__:
        found = getattr(micl_bench, name)
        if name == "report":
            found = type(found).__call__
        if name in ("__version__", "InputError"):
            continue
        assert found.__doc__, name
        if not name.startswith("load_") or name == "load_results":
            for part in ("Args:", "Raises:", "Example:"):
                assert part in found.__doc__, (name, part)


def test_an_evaluation_is_that_of_the_command_line(
    typed_command: Run, few_digits: Path, tmp_path: Path
) -> None:
    done = typed_command(
        *("eval", "knn", "--checkpoint", f"random:{ARCH}", "--data", few_digits, "--out"),
        *(tmp_path / "typed", "--recipe", "embedded_knn", "--set", "k=5"),
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "typed").glob("knn-*.json")
    typed = read_result(path)
    (called,) = micl_bench.evaluate("knn", f"random:{ARCH}", data=few_digits, **KNN)
    for field in ("metrics", "fingerprint", "protocol", "data", "checkpoint", "recipe_digest"):
        assert getattr(called, field) == getattr(typed, field), field
    kept = micl_bench.evaluate("knn", f"random:{ARCH}", data=few_digits, out=tmp_path / "x", **KNN)
    assert kept[0].command == (
        f"micl-bench eval knn --checkpoint random:{ARCH} --data {few_digits} --out {tmp_path}/x "
        "--recipe embedded_knn --set k=5"
    )
    again = micl_bench.evaluate("knn", f"random:{ARCH}", data=few_digits, out=tmp_path / "x", **KNN)
    assert again == kept


def test_bad_calls_are_one_line(few_digits: Path, tmp_path: Path) -> None:
    for task, more, message in (
        ("nothing", {}, "no tasks entry is called 'nothing'; known: "),
        ("knn", {"method": "a\nb"}, "one line of at most 100"),
        ("knn", {"pretrain_name": "A"}, "say one thing together"),
        ("knn", {"recipe": "embedded_nn"}, "near it: embedded_knn"),
        ("knn", {"overrides": ["kk=1"]}, "unknown recipe key"),
    ):
        with pytest.raises(micl_bench.InputError, match=message):
            micl_bench.evaluate(task, f"random:{ARCH}", data=few_digits, out=tmp_path, **more)
    with pytest.raises(micl_bench.InputError, match="no recipe file at embeded"):
        micl_bench.pretrain("embeded", data=few_digits, out=tmp_path)
    with pytest.raises(micl_bench.InputError, match="no results folder at"):
        micl_bench.load_results(tmp_path / "nowhere")


def test_results_are_one_long_table(two_records: Path) -> None:
    table = micl_bench.load_results(two_records)
    records = [read_result(Path(path)) for path in dict.fromkeys(table["record"])]
    assert [one.method for one in records] == ["cls", "other"]
    assert len(table) == sum(len(one.metrics) for one in records)
    contract = "task protocol fingerprint method arch data split seed metric value low high unit"
    assert {*contract.split(), "better", "record"} <= set(table.columns)
    row = table[(table["metric"] == "top1") & (table["method"] == "other")].iloc[0]
    number = records[1].metrics["top1"]
    assert (row["value"], row["low"], row["high"]) == (number.value, number.low, number.high)
    assert (row["unit"], row["better"], row["seed"]) == ("%", "higher", 1)
    pivot = table.pivot_table(index="method", columns="metric", values="value")
    assert list(pivot.index) == ["cls", "other"]


def test_the_documented_session_makes_a_latex_table(
    two_records: Path, few_digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (REPOSITORY / "docs" / "python.md").read_text()
    first, code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    first = first.replace("work/results/micl/backbone.pt", f"random:{ARCH}")
    exec(
        first.replace("work/data/embedded", str(few_digits)).replace('_knn"', '_knn", **K'),
        {"K": K},
    )
    assert capsys.readouterr().out.endswith("%\n")
    assert len([line for line in code.splitlines() if line]) == 5
    exec(code.replace("work/results", str(two_records)), {})
    table = capsys.readouterr().out
    assert table.startswith("\\begin{tabular}")
    assert "other & " in table


def test_a_comparison_is_a_table(two_records: Path) -> None:
    table = micl_bench.compare(two_records / "cls", str(two_records / "other"))
    assert isinstance(table, pd.DataFrame)
    row = table[table["metric"] == "top1"].iloc[0]
    assert row["difference"] == pytest.approx(row["first_value"] - row["second_value"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["test"] == "McNemar"
    assert (row["first"], row["second"]) == (str(two_records / "cls"), str(two_records / "other"))


@pytest.mark.long
def test_a_report_is_made_by_a_call_however_often(two_records: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        page = micl_bench.report(two_records, tmp_path / name)
        assert page == tmp_path / name / "report.html"
        assert "k-NN" in page.read_text()


@pytest.mark.long
def test_a_pretraining_is_a_call_that_goes_on(few_digits: Path, tmp_path: Path) -> None:
    short = ["epochs=1", "batch_size=40", "knn_every_epochs=0"]
    options = {"data": few_digits, "out": tmp_path / "micl", "overrides": short}
    result = micl_bench.pretrain("embedded", **options)
    assert result.task == "pretrain"
    assert result.command.startswith("micl-bench pretrain embedded --data ")
    assert micl_bench.pretrain("embedded", **options) == result
    assert micl_bench.load_backbone(tmp_path / "micl" / "backbone.pt").embed_dim == 128
