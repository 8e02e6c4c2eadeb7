"""Work is never lost: kills, signals, full disks, damaged files, other numbers of processes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import (
    REPOSITORY,
    Command,
    finish,
    good,
    losses,
    overrides,
    record_in,
    refused,
    signalled,
    torchrun,
)

from micl_bench.runs.states import States

SMALL = (
    "batch_size=16", "epochs=6", "knn_every_epochs=2", "save_every_steps=4", "knn_k=5",
    "optim.warmup_epochs=1", "objective.negatives=global",
)  # fmt: skip
STEPS = 30


def arguments(few_digits: Path, out: Path, *more: str) -> list[str]:
    words = ["pretrain", REPOSITORY / "pretrain" / "embedded.py", "--data", few_digits]
    return [*map(str, (*words, "--out", out)), *overrides(*SMALL, *more)]


def wait_for_step(out: Path, step: int, running: Callable[[], bool]) -> None:
    while len(losses(out)) < step and running():
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(arguments(few_digits, out))
    assert len(losses(out)) == STEPS
    return out


def assert_equal_runs(out: Path, whole: Path) -> None:
    assert losses(out) == losses(whole)
    ours, theirs = (torch.load(f / "backbone.pt", weights_only=True) for f in (out, whole))
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())


@pytest.mark.long
@pytest.mark.parametrize("kills", [2, 20])
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(
    whole: Path, few_digits: Path, tmp_path: Path, kills: int
) -> None:
    out, words = tmp_path / "run", arguments(few_digits, tmp_path / "run")
    moments = random.Random(kills)
    for _ in range(kills):
        # From before the first step to the last one, and anywhere in a step or a save.
        command, done = Command(*words), len(losses(out))
        at_step = moments.randint(done // 2, min(done + 6, STEPS))
        wait_for_step(out, at_step, command.is_running)
        time.sleep(moments.uniform(0, 0.1))
        command.send(signal.SIGKILL)
        command.wait()
    finish(words)
    assert_equal_runs(out, whole)
    # Of a process that was killed when its record had just got its name.
    left = out / ".pretrain.json.0a1b2c3d.micl-bench.tmp"
    left.touch()
    assert "nothing to do" in finish(words)
    assert not left.exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_the_step_it_came_in(
    whole: Path, few_digits: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out, words = tmp_path / "run", arguments(few_digits, tmp_path / "run", "save_every_steps=1000")
    messages = signalled(words, out, 6, number)
    step = len(losses(out))
    assert 6 <= step < STEPS
    assert f"stopped by {number.name} after saving step {step} of {STEPS}" in messages
    assert f"going on from step {step} of {STEPS}" in finish(words)
    assert_equal_runs(out, whole)


@pytest.mark.long
def test_a_damaged_state_is_replaced_by_the_one_before(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out, words = tmp_path / "run", arguments(few_digits, tmp_path / "run")
    signalled(words, out, 10, signal.SIGTERM)
    older, newest = sorted((out / "states").glob("*.pt"))
    shorter = older.read_bytes()[:1000]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    both_damaged = tmp_path / "both"
    shutil.copytree(out, both_damaged)
    messages = finish(words)
    assert f"{newest} is damaged" in messages
    assert f"going on from step {int(older.stem.split('-')[1])} of" in messages
    assert_equal_runs(out, whole)

    (both_damaged / "states" / older.name).write_bytes(shorter)
    failed = refused(Command(*arguments(few_digits, both_damaged)).wait())
    assert "every saved state" in failed.stderr.splitlines()[-1]


@pytest.mark.long
def test_a_full_disk_stops_the_run_and_damages_nothing(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out, words = tmp_path / "run", arguments(few_digits, tmp_path / "run")
    signalled(words, out, 6, signal.SIGTERM)
    saved = {path.name: path.read_bytes() for path in (out / "states").iterdir()}

    # Metrics are smaller than that, states larger.
    failed = refused(Command(*words, largest_file=1 << 20).wait())
    assert "cannot be written" in failed.stderr.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in (out / "states").iterdir()} == saved
    finish(words)
    assert_equal_runs(out, whole)


@pytest.mark.long
def test_other_workers_and_other_numbers_of_processes_go_on(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    signalled(arguments(few_digits, out), out, 4, signal.SIGTERM)
    signalled(arguments(few_digits, out, "num_workers=2"), out, 9, signal.SIGUSR1)
    first = len(losses(out))
    assert losses(out) == losses(whole)[:first]
    words = arguments(few_digits, out, "parallel=fsdp", "micro_batch=3")
    done = good(torchrun(2, "-m", "micl_bench", *words))
    assert f"going on from step {first} of {STEPS}" in done.stderr
    assert "batch 16 = 2 x 8 images, 3 a forward pass; each among 16" in done.stderr
    # The same images and patches; sums in another order, in fp32, through the rest of the steps.
    assert losses(out) == pytest.approx(losses(whole), rel=1e-3)


@pytest.mark.long
def test_torchrun_stops_on_a_signal_to_any_process_and_resumes(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out, words = tmp_path / "run", arguments(few_digits, tmp_path / "run")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "-m", "micl_bench", *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    wait_for_step(out, 5, lambda: process.poll() is None)
    listed = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    )
    last_process = max(map(int, listed.stdout.split()))
    os.kill(last_process, signal.SIGUSR1)
    _, messages = process.communicate()
    assert process.returncode == 0, messages
    assert f"after saving step {len(losses(out))} of {STEPS}" in messages
    finish(words)
    assert losses(out) == pytest.approx(losses(whole), rel=1e-3)


def test_two_runs_do_not_share_a_folder(whole: Path, few_digits: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "run", arguments(few_digits, tmp_path / "run", "save_every_steps=1000")
    first = Command(*words)
    wait_for_step(out, 2, first.is_running)
    # Paused, so that it cannot end before the others have tried.
    first.send(signal.SIGSTOP)
    claimed = (out / "recipe.json").read_bytes()
    # Another recipe too, before anything is saved: it must not take the folder's name plate.
    for other in (words, [*words, "--set", "epochs=7"]):
        second = refused(Command(*other).wait())
        assert second.stderr.strip() == (
            f"error: another process is training into {out}; wait for it, or stop it"
        )
    assert (out / "recipe.json").read_bytes() == claimed
    first.send(signal.SIGCONT)
    assert first.wait().returncode == 0
    assert_equal_runs(out, whole)


def test_a_damaged_state_is_not_one_of_those_that_are_kept(tmp_path: Path) -> None:
    states = States(tmp_path / "states")
    for step in (40, 50):
        states.save(step, {"step": step})
    newest = next(states.folder.glob("step-*50-*.pt"))
    newest.write_bytes(newest.read_bytes() + b"x")
    assert states.newest() == {"step": 40}
    for step in (41, 42):
        states.save(step, {"step": step})
    kept = sorted(path.name for path in states.folder.glob("step-*.pt"))
    assert [int(name.split("-")[1]) for name in kept] == [41, 42]
    assert [path.name for path in states.folder.glob("damaged-*")] == [f"damaged-{newest.name}"]


def test_time_on_several_devices_is_all_counted(few_digits: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "run", arguments(few_digits, tmp_path / "run", "epochs=2")
    command = [*words, "--set", "save_every_steps=1"]
    signalled(command, out, 3, signal.SIGTERM)
    state = States(out / "states").newest()
    assert state is not None
    # As if all of it so far had been on eight devices.
    state["spent"]["device_seconds"] = 8 * state["spent"]["seconds"]
    for path in (out / "states").iterdir():
        path.unlink()
    States(out / "states").save(state["step"], state)
    before = dict(state["spent"])
    finish(command)
    record = record_in(out, "pretrain")
    assert record["start"] == state["start"]
    seconds = record["seconds"] - before["seconds"] + before["device_seconds"]
    assert record["device_hours"] == pytest.approx(seconds / 3600, abs=1e-6)
