import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from page_reader import Page
from synthetic_results import recorded, result

from micl_bench.records.result import Result, write_result
from micl_bench.report import build_report, summary_table
from micl_bench.runtime.errors import InputError


def _report(folder: Path, *results: Result) -> Page:
    for made in results:
        write_result(made, folder / "results")
    return Page(build_report(folder / "results", folder / "report").read_text(encoding="utf-8"))


def test_the_page_says_what_embedded_sets_are(demo_report: Path) -> None:
    sentence = "embedded-A stands in for ImageNet-A; its numbers say nothing about ImageNet-A."
    assert sentence in demo_report.read_text(encoding="utf-8")
    assert sentence in (demo_report.parent / "report.md").read_text(encoding="utf-8")


def test_formulas_and_control_characters_in_names_do_no_harm(tmp_path: Path) -> None:
    odd = result(method="$\\broken{$ 50 %", metrics={"top1": 3.0})
    _report(tmp_path, odd, result())
    table = summary_table(recorded([dataclasses.replace(odd, method="a\x1b[2Jb\nc")]))
    assert "a?[2Jb?c" in table
    assert "\x1b" not in table


def test_missing_artefacts_are_said(tmp_path: Path) -> None:
    page = _report(
        tmp_path,
        result(task="pretrain", artifacts={"views": "views.npz", "metrics": "metrics.jsonl"}),
        result(task="coco", metrics={"box_AP": 30.0}, artifacts={"detection": "scenes.npz"}),
    )
    words = "".join(page.words)
    assert "Views in training of MiCL are left out: views.npz, which record pretrain-" in words
    assert "Pre-training curves of MiCL are left out: metrics.jsonl" in words
    assert "Detected objects of MiCL are left out: scenes.npz, which record coco-" in words
    assert [i for i in page.ids if i.startswith("picture-")] == ["picture-scores"]


def test_a_folder_that_is_no_report_is_not_replaced(tmp_path: Path) -> None:
    write_result(result(), tmp_path / "results")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for out, words in (
        ("mine", "other than a report"),
        ("results", "would replace"),
        ("file", "is a file"),
    ):
        with pytest.raises(InputError, match=words):
            build_report(tmp_path / "results", tmp_path / out)
    with pytest.raises(InputError, match="would replace"):
        build_report(tmp_path / "results", tmp_path)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_an_older_report_is_replaced(tmp_path: Path) -> None:
    _report(tmp_path, result())
    (tmp_path / "report" / "figures" / "stale.png").touch()
    _report(tmp_path)
    assert not (tmp_path / "report" / "figures" / "stale.png").exists()


def test_a_report_is_made_by_one_process_without_torch(tmp_path: Path) -> None:
    """A process that it started could outlive it where it is killed."""
    for seed in range(3):
        write_result(result(seed=seed), tmp_path / "results")
    code = (
        "import os, pathlib, sys, multiprocessing as mp; from micl_bench.report import build_report\n"
        "def forbidden(*_): raise AssertionError('a process was started')\n"
        "os.fork = mp.process.BaseProcess.start = forbidden\n"
        f"root = pathlib.Path({str(tmp_path)!r}); build_report(root / 'results', root / 'report')\n"
        "assert not {'torch', 'matplotlib.pyplot'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_summary_needs_no_report_extra() -> None:
    code = (
        "import sys; from micl_bench.report import summary_table; "
        "assert not {'matplotlib', 'jinja2', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_summary_has_a_column_for_each_method() -> None:
    made = [
        result(method="random weights", metrics={"top1": 41.25}),
        result(metrics={"top1": 78.4}),
        result(task="coco", metrics={"box_AP": 20.0}, data={"stands_for": "COCO"}),
    ]
    lines = summary_table(recorded(made)).splitlines()
    assert lines[0].split() == ["task", "data", "metric", "MiCL", "random", "weights"]
    row = ["knn", "embedded", "top-1", "[%]", "78.4*", "75.6–81.0", "41.2", "38.1–44.5"]
    assert lines[2].split() == row
    assert lines[3].split() == ["coco", "embedded", "box", "AP", "[%]", "20.0"]
    assert lines[-1] == "Stand-ins, no benchmark numbers: embedded for COCO."


def test_the_summary_marks_numbers_of_different_fingerprints() -> None:
    made = [
        result(settings={"k": 10}, intervals={}),
        result(settings={"k": 20}, intervals={}, method="x"),
        result(settings={"k": 20}, task="linear", intervals={}),
    ]
    lines = summary_table(recorded(made)).splitlines()
    assert lines[2].split() == ["knn", "embedded", "top-1", "[%]", "80.0", "[1]", "80.0", "[2]"]
    assert lines[3].split() == ["linear", "embedded", "top-1", "[%]", "80.0"]
    words = "k-NN, k = 20, cosine, temperature 0.07, 64 px"
    assert lines[5:] == [f"[1] {words}; k: 10", f"[2] {words}; k: 20"]
