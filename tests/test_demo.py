"""The demo: every stage through the public commands, skipped when done, resumed when cut."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import REPOSITORY

from micl_bench.cli import invoke
from micl_bench.demo import demo_stages, run_demo
from micl_bench.errors import InputError
from micl_bench.record import SCHEMA, read_results

# Lengths only: every stage runs for real, on the real embedded data.
SHORT = {
    "pretrain": ("epochs=1", "knn_every_epochs=1"),
    "linear": ("probe.epochs=2",),
    "finetune": ("training.epochs=1",),
    "ade20k": ("train_cfg.max_iters=2",),
    "coco": ("train_cfg.max_iters=2",),
}


def shorten(arguments: list[str]) -> list[str]:
    kind = arguments[1] if arguments[0] == "eval" else arguments[0]
    return [*arguments, *(word for value in SHORT.get(kind, ()) for word in ("--set", value))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A demo interrupted once in the middle of a stage, then completed; and the stages it ran."""
    workdir = tmp_path_factory.mktemp("demo") / "work"
    ran: list[str] = []

    def interrupt_first_linear(arguments: list[str]) -> None:
        ran.append(" ".join(arguments[:2]))
        if arguments[:2] == ["eval", "linear"] and ran.count("eval linear") == 1:
            leftover = Path(arguments[arguments.index("--out") + 1])
            leftover.mkdir(parents=True)
            (leftover / "half.json").write_text(f'{{"schema": "{SCHEMA}"}}')
            raise KeyboardInterrupt
        invoke(shorten(arguments))

    with pytest.raises(KeyboardInterrupt):
        run_demo(workdir, invoke=interrupt_first_linear)
    run_demo(workdir, invoke=interrupt_first_linear)
    return workdir, ran


def test_every_stage_ran_once_and_the_cut_one_again(finished: tuple[Path, list[str]]) -> None:
    workdir, ran = finished
    stages = demo_stages(workdir, REPOSITORY)
    assert len(ran) == len(stages) + 1
    assert ran.count("pretrain " + str(REPOSITORY / "pretrain" / "embedded.py")) == 1


def test_results_hold_every_task_and_start(finished: tuple[Path, list[str]]) -> None:
    workdir, _ = finished
    found = {(r.task, r.data.name, r.method) for _, r in read_results(workdir / "results")}
    both = ("MiCL", "random weights")
    expected = {("pretrain", "embedded", "MiCL"), ("finetune", "embedded", "from scratch")}
    expected |= {(task, "embedded", m) for task in ("knn", "linear", "finetune") for m in both}
    for name in ("embedded-A", "embedded-R", "embedded-Sketch"):
        expected |= {("robustness", name, m) for m in (*both, "from scratch")}
    expected |= {("ade20k", "embedded-ADE20K", m) for m in both}
    expected |= {("coco", "embedded-COCO", m) for m in both}
    assert found == expected


def test_the_report_has_its_tables_and_pictures(finished: tuple[Path, list[str]]) -> None:
    workdir, _ = finished
    page = (workdir / "report" / "report.html").read_text()
    assert "stands in for ImageNet-A" in page
    assert len(list((workdir / "report" / "figures").glob("*.png"))) >= 5


def test_run_again_it_does_nothing(finished: tuple[Path, list[str]], capsys) -> None:  # type: ignore[no-untyped-def]
    workdir, _ = finished
    run_demo(workdir, invoke=lambda arguments: pytest.fail(f"ran {arguments}"))
    printed = capsys.readouterr().out
    assert "random weights" in printed
    assert str(workdir / "report" / "report.html") in printed


def test_a_removed_result_is_made_again_and_the_report_too(
    finished: tuple[Path, list[str]],
) -> None:
    workdir, _ = finished
    shutil.rmtree(workdir / "results" / "knn-random")
    ran = []

    def record(arguments: list[str]) -> None:
        ran.append(arguments[0:2])
        invoke(shorten(arguments))

    run_demo(workdir, invoke=record)
    assert ran == [["eval", "knn"], ["report", "--results"]]


def test_what_builds_on_a_renewed_stage_is_due_even_after_a_kill(tmp_path: Path) -> None:
    def touch(arguments: list[str]) -> None:
        Path(arguments[arguments.index("--out") + 1]).mkdir(parents=True, exist_ok=True)

    def run(cut_at: int | None) -> list[str]:
        ran: list[str] = []

        def invoke_or_cut(arguments: list[str]) -> None:
            if len(ran) == cut_at:
                raise KeyboardInterrupt
            ran.append(arguments[arguments.index("--out") + 1].rpartition("/")[2])
            touch(arguments)

        with contextlib.suppress(KeyboardInterrupt, InputError):
            run_demo(tmp_path / "work", invoke=invoke_or_cut)  # ends without any record to show
        return ran

    assert len(run(None)) == 18
    shutil.rmtree(tmp_path / "work" / "results" / "pretrain")
    assert run(2) == ["pretrain", "knn-micl"]
    rest = run(None)
    assert "finetune-micl" in rest
    assert "robustness-micl" in rest
    assert "finetune-random" not in rest
    assert run(None) == []


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    thesis = tmp_path / "report" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    with pytest.raises(InputError, match="is not the demo's"):
        run_demo(tmp_path, invoke=lambda arguments: None)
    assert thesis.read_text() == "mine"


def test_killed_in_pretraining_it_goes_on_from_the_saved_step(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "micl_bench", "demo", "--workdir", str(tmp_path / "work")]
    states = tmp_path / "work" / "results" / "pretrain" / "states"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(states.glob("*.pt")):
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert again.stderr is not None
    lines = []
    for line in again.stderr:
        lines.append(line)
        if "going on from step" in line:
            break
    again.send_signal(signal.SIGKILL)
    again.wait()
    assert "2 of 18 stages are done already" in lines[0]
    assert "going on from step" in lines[-1]
