"""Suites as real processes: killed and called again, with an entry that fails, stopped by a signal."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import REPOSITORY, Run

from micl_bench.cli import invoke
from micl_bench.errors import InputError, Stopped
from micl_bench.files import alone
from micl_bench.record import read_result, read_results
from micl_bench.suite import plan
from micl_bench.suite.runs import command_of, run_all

SUITE = """
task: ade20k
recipe: {recipe}
data: {data}
checkpoints: {{random: "random:vit_demo_patch4_32"}}
overrides: [train_cfg.max_iters=2, train_cfg.val_interval=2, val_dataloader.dataset.indices=6]
entries:
  - {{name: missing, task: knn, recipe: "", overrides: [], data: nowhere}}
  - name: rates
    matrix: {{optim_wrapper.optimizer.lr: [0.001, 0.002]}}
"""


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def started(*arguments: object) -> subprocess.Popen[str]:
    """A process with its children in a group of their own, that one kill ends all."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_killed_and_called_again_it_goes_on_past_what_is_done_and_what_fails(
    micl_bench: Run, embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mmseg")
    suite, out = tmp_path / "suite.yaml", tmp_path / "out"
    recipe = REPOSITORY / "downstream" / "embedded_upernet.py"
    suite.write_text(SUITE.format(recipe=recipe, data=embedded / "embedded-ade20k"))
    command = ("suite", "run", suite, "--out", out)
    first, second = (out / "rates" / "random" / f"lr={rate}" for rate in ("0.001", "0.002"))

    process = started("-m", "micl_bench", *command)
    wait_for(lambda: any(first.glob("ade20k-*.json")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not any(second.glob("ade20k-*.json"))
    (record,) = first.glob("ade20k-*.json")
    before = record.stat().st_mtime_ns

    done = micl_bench(*command)
    assert done.returncode == 1
    assert record.stat().st_mtime_ns == before
    assert "[2/3] ade20k rates/random/lr=0.001: done already" in done.stderr
    assert len(read_results(out)) == 2
    results = [read_result(path) for folder in (first, second) for path in folder.glob("ade*.json")]
    assert len({result.fingerprint for result in results}) == 2
    for result in results:
        assert shlex.split(result.command)[:3] == ["micl-bench", "eval", "ade20k"]

    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "entry",
        "method",
        "values",
        "data",
        "metric",
        "value",
        "95",
        "%",
        "interval",
    ]
    assert [line.split()[0] for line in lines[2:5]] == ["missing", "rates", "rates"]
    assert "failed" in lines[2]
    best = max(result.metrics["mIoU"] for result in results)
    for line, result in zip(lines[3:5], results, strict=True):
        assert f"{result.metrics['mIoU']:.1f}" in line
        assert ("best of 2" in line) == (result.metrics["mIoU"] == best)
    assert "on the evaluated images themselves" in done.stdout
    assert "missing/random: no image folder" in lines[-1]
    assert lines[-1].endswith("(exit code 2)")

    words = [str(word) for word in command]
    capsys.readouterr()
    invoke([*words, "--dry-run"])
    (left,) = capsys.readouterr().out.splitlines()
    assert left.split()[:3] == ["micl-bench", "eval", "knn"]
    with pytest.raises(InputError, match="holds the result of another command"):
        invoke([*words, "--set", "data=elsewhere", "--dry-run"])


def run_of(tmp_path: Path, *arguments: str, processes: int = 1) -> plan.Run:
    return plan.Run(
        name="a/b",
        entry="a",
        task="knn",
        method="b",
        values=(),
        arguments=arguments,
        folder=tmp_path / "a" / "b",
        processes=processes,
    )


def test_a_run_that_ends_well_without_a_result_was_stopped(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="a/b was stopped; the same command goes on"):
        run_all([run_of(tmp_path, "--version")], tmp_path)


def test_several_processes_are_torchruns(tmp_path: Path) -> None:
    words = command_of(run_of(tmp_path, "eval", "knn", processes=2))
    assert words[1:3] == ["-m", "torch.distributed.run"]
    assert words[-5:] == ["--nproc-per-node=2", "-m", "micl_bench", "eval", "knn"]


CHILD = """
import signal, sys, time
def leave(number, frame):
    print("error: saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open({ready!r}, "w").close()
time.sleep(60)
"""
PARENT = """
import sys
from pathlib import Path
from micl_bench.errors import Stopped
from micl_bench.files import alone
from micl_bench.suite.runs import execute
with alone(Path({out!r}), "running a suite in") as lock:
    try:
        execute([sys.executable, "-c", {child!r}], lock)
    except Stopped as stop:
        print(stop, stop.signum)
"""


@pytest.fixture
def parent(tmp_path: Path) -> subprocess.Popen[str]:
    """A suite at work, in the middle of a run."""
    ready = tmp_path / "ready"
    child = CHILD.format(ready=str(ready))
    process = started("-c", PARENT.format(out=str(tmp_path), child=child))
    wait_for(ready.exists, process)
    return process


def test_a_signal_reaches_the_run_which_saves(parent: subprocess.Popen[str]) -> None:
    parent.send_signal(signal.SIGTERM)
    stdout, stderr = parent.communicate(timeout=30)
    assert stdout.split()[:3] == ["stopped", "by", "SIGTERM;"]
    assert stdout.split()[-1] == str(int(signal.SIGTERM))
    assert stderr.strip() == "error: saved"


def test_a_run_left_behind_keeps_the_suite_locked(
    parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    parent.kill()
    parent.wait()
    with (
        pytest.raises(InputError, match="another process is running a suite"),
        alone(tmp_path, "running a suite in"),
    ):
        pass
    os.killpg(parent.pid, signal.SIGKILL)
    parent.communicate()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            with alone(tmp_path, "running a suite in"):
                return
        except InputError:
            time.sleep(0.05)
    pytest.fail("the lock outlived the run")
