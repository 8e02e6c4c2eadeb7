"""Runs of a suite, one after another: what is done is skipped, what fails does not stop the others."""

import contextlib
import dataclasses
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from micl_bench.errors import InputError, Stopped
from micl_bench.files import alone
from micl_bench.log import clock, printable, say
from micl_bench.record import Result, read_result
from micl_bench.suite.plan import Run

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_SECONDS_TO_END = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run: its records, or else why it has none."""

    run: Run
    results: tuple[Result, ...] = ()
    problem: str = ""


def command_of(run: Run) -> list[str]:
    """The process that does a run: the command itself, or under torchrun."""
    start = [sys.executable]
    if run.processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += [f"--nproc-per-node={run.processes}"]
    return [*start, "-m", "micl_bench", *run.arguments]


def records_of(run: Run) -> tuple[Result, ...]:
    """The run's records in its folder; none where it is still to do.

    Raises:
        InputError: records there are damaged, or another command wrote them.
    """
    results = tuple(read_result(path) for path in sorted(run.folder.glob(f"{run.task}-*.json")))
    wanted = shlex.join(["micl-bench", *run.arguments])
    if others := [result.command for result in results if result.command != wanted]:
        raise InputError(
            f"{run.folder} holds the result of another command ({others[0]}); give another --out, or "
            "remove it"
        )
    return results


def run_all(runs: list[Run], out: Path) -> list[Outcome]:
    """Do what is not done yet.

    Raises:
        InputError: another process is at this suite, or at a run that one left behind.
        Stopped: a signal came; the run that got it had its time to save.
    """
    out.mkdir(parents=True, exist_ok=True)
    with alone(out, "running a suite in") as lock:
        return [_outcome(run, f"[{n}/{len(runs)}]", lock) for n, run in enumerate(runs, start=1)]


def _outcome(run: Run, place: str, lock: int) -> Outcome:
    label = f"{place} {run.task} {printable(run.name)}"
    try:
        if results := records_of(run):
            say(f"{label}: done already")
            return Outcome(run=run, results=results)
        say(f"{label}\n  {printable(shlex.join(['micl-bench', *run.arguments]))}")
        start = time.monotonic()
        code, last_line = execute(command_of(run), lock)
        results = records_of(run)
    except InputError as error:
        say(f"{label}: {error}")
        return Outcome(run=run, problem=str(error))
    took = clock(time.monotonic() - start)
    if code:
        say(f"{label}: failed after {took}")
        reason = last_line.removeprefix("error: ") or "it said nothing"
        return Outcome(run=run, problem=f"{reason} (exit code {code})")
    if not results:
        # A signal to that process alone: it saved and left.
        raise Stopped(f"{run.name} was stopped; the same command goes on", signum=0)
    say(f"{label}: took {took}")
    return Outcome(run=run, results=results)


def execute(command: list[str], lock: int) -> tuple[int, str]:
    """Exit code and last line of a process, whose output is passed on.

    The process holds the suite's lock too: were this one killed, it would still be at work.
    """
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            text=True,
            errors="replace",
        ) as process,
        _forwarding(process) as received,
    ):
        assert process.stdout is not None
        last_line = ""
        try:
            for line in process.stdout:
                sys.stderr.write(line)
                last_line = printable(line.strip()) or last_line
            code = process.wait()
        except KeyboardInterrupt:
            # From a terminal the process got it too.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_END)
            process.terminate()
            raise
    if received:
        name = signal.Signals(received[0]).name
        raise Stopped(f"stopped by {name}; the same command goes on", signum=received[0])
    return code, last_line


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Pass on the signals that ask a run to save and leave; gives those that came."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        process.send_signal(number)

    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
    for number in _SIGNALS:
        # submitit ignores SIGTERM on purpose, because its own signal follows.
        if number is signal.SIGTERM and signal.getsignal(number) is not signal.SIG_DFL:
            continue
        before[number] = signal.signal(number, forward)
    try:
        yield received
    finally:
        for noted, handler in before.items():
            signal.signal(noted, handler)
