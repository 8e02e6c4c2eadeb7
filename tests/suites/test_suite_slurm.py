"""Suites as array jobs of a real Slurm: in order of need, past a failure, preempted and gone on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_cluster import cluster, missing
from support import REPOSITORY, Run

from micl_bench.records.plans import read_plans
from micl_bench.records.store import read_results
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.state import States

pytest.importorskip("submitit")

SUITE = """
data: {data}
checkpoints:
  MiCL:
    recipe: {root}/pretrain/embedded.py
    data: {data}
    overrides: [epochs={epochs}, batch_size=16, knn_every_epochs=0, save_every_steps=1000]
  random weights: random:vit_demo_patch4_32
entries:
  - {{name: knn, task: knn, recipe: {root}/downstream/embedded_knn.py, overrides: [k=5]}}
  - {{name: linear, task: linear, recipe: {root}/downstream/embedded_linear.py,
      overrides: [probe.epochs=2, probe.batch_size=40, probe.warmup_epochs=0]}}
  - {{name: bad, task: finetune, data: none, methods: [MiCL]}}
  - {{name: hurt, task: robustness, of: [bad]}}
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster of one node."""
    if absent := missing():
        message = f"not installed: {', '.join(absent)}"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def write(folder: Path, data: Path, epochs: int) -> Path:
    path = folder / "suite.yaml"
    path.write_text(SUITE.format(root=REPOSITORY, data=data, epochs=epochs))
    return path


def submit(environment: dict[str, str], folder: Path, *options: object) -> list[str]:
    command = [sys.executable, "-m", "micl_bench", "suite", "run", "suite.yaml", "--out", "store"]
    command += ["--slurm", "--logs", "logs", *map(str, options)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def said(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def wait_for(happened: Callable[[], object], folder: Path) -> None:
    end = time.monotonic() + 300
    while not happened():
        logs = [path.read_text()[-2000:] for path in (folder / "logs").glob("*_log.out")]
        assert time.monotonic() < end, "\n".join(logs)
        time.sleep(0.2)


def words(folder: Path) -> dict[str, str]:
    runs = expand(read_file(folder / "suite.yaml"))
    found = States(folder / "store", runs)
    return {run.name: found.of(run).word for run in runs}


@pytest.mark.long
def test_a_level_of_need_is_an_array_and_a_failure_stops_only_what_needs_it(
    slurm: dict[str, str], few_digits: Path, tmp_path: Path
) -> None:
    write(tmp_path, few_digits, epochs=2)
    *jobs, last = submit(slurm, tmp_path, "--minutes", 10)
    by_name = {line.split(": ")[1].split("  ")[0]: line.split(": ")[0].split()[1] for line in jobs}
    assert len(by_name) == 7
    array = {name: number.partition("_")[0] for name, number in by_name.items()}
    assert array["pretrain/MiCL"] == array["knn/random weights"]
    assert "_" in by_name["pretrain/MiCL"]
    # Linear reads the features that k-NN computes.
    assert array["linear/random weights"] == array["knn/MiCL"] == array["bad/MiCL"]
    assert array["linear/MiCL"] == array["hurt/MiCL"]
    assert last.startswith(f"to stop them: scancel {array['pretrain/MiCL']} ")
    ((plan,), _) = read_plans(tmp_path / "store")
    assert {run.state for run in plan.runs} == {"to do"}

    wait_for(lambda: not said(slurm, "squeue", "--noheader"), tmp_path)
    found = words(tmp_path)
    assert found.pop("bad/MiCL") == "failed"
    assert found.pop("hurt/MiCL") == "new"
    assert set(found.values()) == {"done"}
    assert len(read_results(tmp_path / "store")) == 5
    (log,) = (tmp_path / "logs").glob(f"{by_name['hurt/MiCL']}_*log.out")
    assert "it needs bad/MiCL, which is not done" in log.read_text()
    ((plan,), _) = read_plans(tmp_path / "store")
    states = {run.name: run.state for run in plan.runs}
    assert [name for name, state in states.items() if state == "failed"] == ["bad/MiCL"]
    starts = {r.method: r.start for r in read_results(tmp_path / "store") if r.task == "pretrain"}
    assert starts

    again = submit(slurm, tmp_path, "--minutes", 10)
    assert len(again) == 3  # the two that failed, and how to stop them
    wait_for(lambda: not said(slurm, "squeue", "--noheader"), tmp_path)
    assert len(read_results(tmp_path / "store")) == 5


@pytest.mark.long
def test_preempted_it_saves_is_requeued_and_goes_on(
    slurm: dict[str, str], few_digits: Path, tmp_path: Path
) -> None:
    write(tmp_path, few_digits, epochs=120)
    jobs = submit(slurm, tmp_path, "--minutes", 10)
    (job,) = [line.split()[1].rstrip(":") for line in jobs if "pretrain/MiCL" in line]
    store = tmp_path / "store"

    def steps() -> int:
        found = list(store.glob("pretrain/embedded/*/metrics.jsonl"))
        return len(found[0].read_text().splitlines()) if found else 0

    wait_for(lambda: steps() > 5, tmp_path)
    said(slurm, "scancel", "--signal=USR2", job)
    (log,) = list((tmp_path / "logs").glob(f"{job}_0_log.out"))
    wait_for(lambda: "Requeued job" in log.read_text(), tmp_path)
    (told,) = store.glob("pretrain/embedded/*/log.txt")
    saved = int(told.read_text().partition("after saving step ")[2].split()[0])

    # Within the second in which it stopped the job, the node refuses it: "credential revoked".
    time.sleep(2)

    def goes_on() -> bool:
        # A requeued job waits for two minutes, unless it is told not to.
        update = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
        subprocess.run(update, env=slurm, capture_output=True, check=False)
        return "going on from step" in told.read_text()

    wait_for(goes_on, tmp_path)
    assert f"going on from step {saved} of" in told.read_text()
    # What needs it waited for its second part too.
    wait_for(lambda: words(tmp_path)["knn/MiCL"] == "done", tmp_path)
    said(slurm, "scancel", "--user", said(slurm, "id", "-un").strip())


@pytest.mark.long
def test_options_of_jobs_want_jobs(micl_bench: Run, few_digits: Path, tmp_path: Path) -> None:
    write(tmp_path, few_digits, epochs=1)
    command = ("suite", "run", "suite.yaml", "--out", "store")
    for options, message in (
        (("--minutes", "5"), "--minutes belong to jobs: give --slurm too"),
        (("--slurm", "--dry-run", "--partition", "x"), "--partition belong to jobs"),
        (("--slurm", "--sbatch", "dependency=x"), "cannot set dependency"),
        (("--slurm", "--minutes", "1"), "leaves nothing of 1 min"),
        (("--slurm", "--set", "processes=4", "--gpus-per-node", "2"), "a job has 2 GPUs"),
        (("--only", "x"), "has no such run any more"),
    ):
        done = micl_bench(*command, *options)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert message in line
    assert not (tmp_path / "store").exists()
