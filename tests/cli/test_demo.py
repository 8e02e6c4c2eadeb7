"""The demo: the suite `embedded` and its report, skipped when done, resumed when cut."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from support import REPOSITORY

from micl_bench.cli.app import run
from micl_bench.cli.demo import SUITE, run_demo
from micl_bench.records.store import read_results
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.shipped import suites
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file

# Lengths only: every run is real, on the real embedded data.
SHORT = {
    "linear": ["probe.epochs=2"],
    "finetune": ["training.epochs=1"],
    "scratch": ["training.epochs=1"],
    "representation": ["map_images=100"],
    "ade20k": ["train_cfg.max_iters=2"],
    "coco": ["train_cfg.max_iters=2"],
}
DATA = "data: made:digits/embedded"


def shortened(folder: Path) -> Path:
    """The shipped suite with every training cut short."""
    content = yaml.safe_load(suites()[SUITE].read_text())
    content["checkpoints"]["MiCL"]["overrides"] = ["epochs=1", "knn_every_epochs=1"]
    for entry in content["entries"]:
        if entry["name"] in SHORT:
            entry["overrides"] = SHORT[entry["name"]]
    path = folder / "embedded.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo that has run once."""
    folder = tmp_path_factory.mktemp("demo")
    run_demo(run, folder / "work", command="again", suite=shortened(folder))
    return folder


def made(folder: Path) -> dict[Path, int]:
    """Every record and the report, and when they were written."""
    paths = [one.path for one in read_results(folder / "work" / "results")]
    return {
        path: path.stat().st_mtime_ns
        for path in [*paths, folder / "work" / "report" / "report.html"]
    }


@pytest.mark.long
def test_results_hold_every_task_and_start(finished: Path) -> None:
    found = {(r.task, r.data.name, r.method) for r in read_results(finished / "work/results")}
    both = ("MiCL", "random weights")
    expected = {("pretrain", "embedded", "MiCL"), ("finetune", "embedded", "from scratch")}
    for task in ("knn", "linear", "representation", "finetune"):
        expected |= {(task, "embedded", method) for method in both}
    for name in ("embedded-A", "embedded-R", "embedded-Sketch"):
        expected |= {("robustness", name, m) for m in (*both, "from scratch")}
    expected |= {("ade20k", "embedded-ADE20K", m) for m in both}
    expected |= {("coco", "embedded-COCO", m) for m in both}
    assert found == expected


@pytest.mark.long
def test_features_are_computed_once_for_all_that_read_them(finished: Path) -> None:
    read = {
        (result.task, result.method): result.details["features"]["val"]["read"]
        for result in read_results(finished / "work" / "results")
        if result.task in ("knn", "linear")
    }
    # k-NN comes first; the tests share one cache, so that random weights may have been read before.
    assert read["linear", "MiCL"]
    assert read["linear", "random weights"]


@pytest.mark.long
def test_the_report_has_its_tables_and_pictures(finished: Path) -> None:
    page = (finished / "work" / "report" / "report.html").read_text()
    assert "stands in for ImageNet-A" in page
    assert len(list((finished / "work" / "report" / "figures").glob("*.png"))) >= 5


@pytest.mark.long
def test_run_again_it_does_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = made(finished)
    run_demo(run, finished / "work", command="again", suite=shortened(finished))
    printed = capsys.readouterr().out
    assert made(finished) == before
    assert "random weights" in printed
    assert str(finished / "work" / "report" / "report.html") in printed


@pytest.mark.long
def test_a_removed_result_is_made_again_and_the_report_too(finished: Path) -> None:
    before = made(finished)
    (record,) = (finished / "work" / "results" / "knn" / "random_weights").rglob("knn-*.json")
    record.unlink()
    run_demo(run, finished / "work", command="again", suite=shortened(finished))
    after = made(finished)
    page = finished / "work" / "report" / "report.html"
    (new,) = set(after) - set(before)
    assert new.parent == record.parent
    assert {path for path in before if after.get(path) != before[path]} == {record, page}


def test_a_report_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    thesis = tmp_path / "report" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    with pytest.raises(InputError, match="is not the demo's"):
        run_demo(run, tmp_path, command="again")
    assert thesis.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.long
def test_a_failure_is_told_and_the_rest_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "bad.yaml"
    recipe = REPOSITORY / "downstream" / "embedded_knn.py"
    suite.write_text(
        f"{{task: knn, recipe: {recipe}, checkpoints: {{r: random:vit_demo_patch4_32, b: no.pt}}, "
        "prepare: {digits: data embedded}, data: made:digits/embedded, entries: [{name: n}]}"
    )
    with pytest.raises(SystemExit) as caught:
        run_demo(run, tmp_path / "work", command="micl-bench demo", suite=suite)
    assert caught.value.code == 1
    printed = capsys.readouterr().out
    assert "failed: n/b: " in printed
    assert printed.rstrip().endswith("micl-bench demo")
    assert [r.method for r in read_results(tmp_path / "work" / "results")] == ["r"]


@pytest.mark.long
def test_killed_in_pretraining_it_goes_on_from_the_saved_step(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "micl_bench", "demo", "--workdir", str(tmp_path / "work")]
    out = tmp_path / "work" / "results" / "pretrain" / "embedded"

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def kill(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    process = started()
    try:
        while not list(out.glob("*/states/*.pt")):
            assert process.poll() is None
            time.sleep(0.1)
        kill(process)
        process = started()
        (log,) = out.glob("*/log.txt")
        while "going on from step" not in log.read_text():
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        kill(process)
    notes = (tmp_path / "work" / "results" / "data").glob("*/run.json")
    assert all('"state": "done"' in note.read_text() for note in notes)


def test_the_commands_are_those_of_the_suite_and_make_demo_runs_it() -> None:
    assert "micl-bench demo --workdir work/demo" in (REPOSITORY / "Makefile").read_text()
    runs = expand(read_file(SUITE))
    assert len(runs) == 19
    # Nothing but the recipes' own values: what the README shows one step at a time.
    assert not any("--set" in run.words for run in runs)
