"""`micl-bench slurm`: real jobs through submitit's local controller, real signals, the real script.

Slurm itself is not here: a stand-in for `sbatch` keeps the script it is given, and submitit's local
controller starts a job again as Slurm does.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import REPOSITORY, Command, Run, good, losses, refused

pytest.importorskip("submitit")

STEPS = 30
SMALL = (
    "batch_size=16", "epochs=6", "knn_every_epochs=0", "save_every_steps=1000",
    "optim.warmup_epochs=1", "objective.negatives=global",
)  # fmt: skip
NOTHING = ["pretrain", "x.py", "--data", "x", "--out", "y"]


def pretrain(few_digits: Path, out: Path, *more: str) -> list[str]:
    words = [
        "pretrain",
        REPOSITORY / "pretrain" / "embedded.py",
        "--data",
        few_digits,
        "--out",
        out,
    ]
    sets = [word for value in (*SMALL, *more) for word in ("--set", value)]
    return [*map(str, words), *sets]


class Job:
    """A job on this machine, submitted by the command line."""

    def __init__(self, logs: Path, words: list[str], *options: object) -> None:
        done = good(Command("slurm", "--local", "--logs", logs, *options, "--", *words).wait())
        first, *lines = done.stdout.splitlines()
        self.controller = int(first.split()[1])
        self.logs = [Path(line.removeprefix("log: ")) for line in lines]

    def is_running(self) -> bool:
        # Whose parent is gone may stay as a zombie.
        state = ps("stat=", "-p", self.controller)
        return bool(state) and not state[0].startswith("Z")

    def tasks(self) -> list[int]:
        return sorted(map(int, ps("pid=", "--ppid", self.controller)))

    def wait(self) -> str:
        while self.is_running():
            time.sleep(0.05)
        return self.log()

    def log(self, task: int = 0) -> str:
        return self.logs[task].read_text()

    def wait_for_step(self, out: Path, step: int) -> None:
        while len(losses(out)) < step:
            assert self.is_running(), self.log()
            time.sleep(0.005)


def ps(columns: str, *selection: object) -> list[str]:
    command = ["ps", "-o", columns, *map(str, selection)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def with_children(pids: list[int]) -> list[int]:
    """Slurm signals everything that a task started, too."""
    children = [int(child) for pid in pids for child in ps("pid=", "--ppid", pid)]
    return pids + (with_children(children) if children else [])


@pytest.fixture(scope="module")
def whole(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of an uninterrupted run without any scheduler."""
    out = tmp_path_factory.mktemp("whole") / "run"
    good(Command(*pretrain(few_digits, out)).wait())
    assert len(losses(out)) == STEPS
    return losses(out)


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    """Jobs that must not outlive the test."""
    started: list[Job] = []
    yield started
    for job in started:
        if job.is_running():
            for pid in with_children([job.controller]):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.long
def test_preempted_it_saves_requeues_and_ends_as_if_nothing_had_happened(
    whole: list[float],
    few_digits: Path,
    tmp_path: Path,
    jobs: list[Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    # As in a shell that is itself part of a distributed job.
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "7")
    jobs.append(job := Job(tmp_path / "logs", pretrain(few_digits, out, "num_workers=2")))
    job.wait_for_step(out, 6)
    (task,) = job.tasks()
    family = with_children([task])
    assert len(family) == 3
    for pid in reversed(family):
        os.kill(pid, signal.SIGUSR2)
    log = job.wait()

    saved = int(log.partition("after saving step ")[2].split()[0])
    assert 6 <= saved < STEPS
    assert log.count("Requeued job") == 1
    assert f"going on from step {saved} of {STEPS}" in log
    assert "Job completed successfully" in log
    assert losses(out) == whole
    assert len(list(out.glob("pretrain-*.json"))) == 1


@pytest.mark.long
def test_two_tasks_train_together_and_are_requeued_together(
    whole: list[float], few_digits: Path, tmp_path: Path, jobs: list[Job]
) -> None:
    out = tmp_path / "run"
    words = pretrain(few_digits, out)
    jobs.append(job := Job(tmp_path / "logs", words, "--tasks-per-node", 2))
    job.wait_for_step(out, 6)
    assert len(job.logs) == len(job.tasks()) == 2
    # Only the task that may not requeue is told.
    os.kill(job.tasks()[1], signal.SIGUSR2)
    log = job.wait()

    assert log.count("Requeued job") == 1
    assert "batch 16 = 2 x 8 images" in log
    assert "Job completed successfully" in log
    assert "process 1: stopped by SIGUSR2" in job.log(1)
    assert "Requeued" not in job.log(1)
    # The same images and patches; sums in another order, in fp32, through all steps.
    assert losses(out) == pytest.approx(whole, rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "options", "last_line"),
    [
        (signal.SIGUSR1, (), "stopped by SIGUSR1 after saving step"),
        # So short a job counts as having reached its time limit whenever it is warned.
        (
            signal.SIGUSR2,
            ("--requeues", 0, "--minutes", 5),
            "error: saved, but not queued again (Job not requeued because: timed-out too many times.)",
        ),
    ],
)
def test_it_ends_saved_where_a_person_or_the_limit_of_requeues_says_so(
    few_digits: Path,
    tmp_path: Path,
    jobs: list[Job],
    number: signal.Signals,
    options: tuple[object, ...],
    last_line: str,
) -> None:
    out = tmp_path / "run"
    jobs.append(job := Job(tmp_path / "logs", pretrain(few_digits, out), *options))
    job.wait_for_step(out, 6)
    os.kill(job.tasks()[0], number)
    lines = job.wait().splitlines()
    assert lines[-1].startswith(last_line)
    assert not any("Traceback" in line or "Requeued" in line for line in lines)
    assert list((out / "states").glob("step-*.pt"))
    assert 6 <= len(losses(out)) < STEPS


@pytest.mark.long
def test_bad_input_is_one_line_of_the_log_and_a_failed_task(
    tmp_path: Path, jobs: list[Job]
) -> None:
    words = ["pretrain", "no.py", "--data", "x", "--out", str(tmp_path / "out")]
    jobs.append(job := Job(tmp_path / "logs", words))
    lines = job.wait().splitlines()
    assert lines[-1].startswith("error: no recipe file at no.py")
    assert all(line.startswith("submitit INFO") for line in lines[:-1])
    assert not list((tmp_path / "logs").glob("*_result.pkl"))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an `sbatch` on the path that keeps the script it gets, at the path that is returned."""
    commands, script = tmp_path / "bin", tmp_path / "script"
    commands.mkdir()
    copy = shutil.which("cp")
    for name, text in (
        ("srun", "exit 1"),
        ("sbatch", f'{copy} "$1" {script} && echo "Submitted batch job 42"'),
    ):
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(commands))
    return script


def test_the_script_asks_the_cluster_for_what_the_options_say(
    micl_bench: Run, tmp_path: Path, cluster: Path
) -> None:
    done = micl_bench(
        *("slurm", "--nodes", 2, "--gpus-per-node", 8, "--cpus-per-gpu", 6, "--minutes", 4320),
        *("--partition", "big", "--account", "lab", "--sbatch", "qos=high"),
        *("--warn-seconds", 300, "--logs", "logs", "--", *NOTHING),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "job: 42  (to stop it: scancel 42)",
        *(f"log: {tmp_path}/logs/42_{task}_log.out" for task in range(4)),
        "and so on, one log per process: 16 in all",
    ]
    assert (tmp_path / "logs" / "42_submitted.pkl").exists()
    script = cluster.read_text()
    flags = {line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")}
    assert flags >= {
        *("--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--cpus-per-task=6"),
        *("--time=4320", "--partition=big", "--account=lab", "--qos=high"),
        *("--signal=USR2@300", "--requeue", "--open-mode=append"),
    }
    (srun,) = [line for line in script.splitlines() if line.startswith("srun ")]
    assert {"--cpus-per-task=6", "--kill-on-bad-exit=1", "--wait=0", sys.executable} <= set(
        srun.split()
    )


def test_every_evaluation_may_have_several_processes(
    micl_bench: Run, tmp_path: Path, cluster: Path
) -> None:
    for task in ("finetune", "ade20k", "coco"):
        place = ("--checkpoint", "x", "--data", "x", "--out", "x")
        done = micl_bench(
            "slurm", "--gpus-per-node", 2, "--logs", "logs", "--", "eval", task, *place
        )
        assert done.returncode == 0, done.stderr
        assert "#SBATCH --ntasks-per-node=2" in cluster.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no command to run after --"),
        (["--", "data"], "no command to run after -- data"),
        (["--", "slurm", "--", *NOTHING], "slurm cannot run 'slurm'"),
        (["--", "pretrian", "x.py"], "slurm cannot run 'pretrian'; known: demo"),
        (["--", "data", "pakc"], "slurm cannot run 'pakc'; known: embedded"),
        (["--", "pretrain", "x.py", "--data", "x"], "Missing option '--out'"),
        (["--nodes", "0", "--", *NOTHING], "--nodes"),
        (["--minutes", "2", "--", *NOTHING], "leaves nothing of 2 min"),
        (["--gpus-per-node", "8", "--tasks-per-node", "4", "--", *NOTHING], "does not fit 8 GPUs"),
        (["--gpus-per-node", "2", "--", "list", "tasks"], "list runs as one process, not as 2"),
        (["--sbatch", "qos", "--", *NOTHING], "is not KEY=VALUE"),
        (["--sbatch", "signal=KILL", "--", *NOTHING], "cannot set signal"),
        (["--sbatch", "qos=high\nrm", "--", *NOTHING], "long options"),
        (["--local", "--partition", "big", "--", *NOTHING], "--local takes no"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_submits_nothing(
    micl_bench: Run, tmp_path: Path, cluster: Path, words: list[str], message: str
) -> None:
    done = refused(micl_bench("slurm", *words))
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_no_slurm_a_refusal_and_no_submitit_are_one_line_each(
    micl_bench: Run, tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    refused = micl_bench("slurm", "--", *NOTHING)
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = micl_bench("slurm", "--", *NOTHING)
    # As where the extra was not installed.
    code = "import sys; sys.modules['submitit'] = None; from micl_bench.cli.app import main; main()"
    bare = subprocess.run(
        [sys.executable, "-c", code, "slurm", "--", *NOTHING],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    for done, message in (
        (refused, "error: sbatch refuses the job: sbatch: error: invalid partition"),
        (absent, "error: there is no Slurm here"),
        (bare, "error: slurm needs submitit: pip install 'micl-bench[slurm]'"),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(message)
        assert len(done.stderr.splitlines()) == 1
