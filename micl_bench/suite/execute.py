"""One run as a process of its own, its output in a log file that outlives both.

A single process is forked from this one after torch has been imported here, which takes a new
interpreter several seconds; several are started by torchrun. Killed or crashed, it takes nothing else
along; and were this process killed, the run would go on, with its claim.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from micl_bench.errors import InputError, Stopped
from micl_bench.log import printable

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_SECONDS_TO_END = 10.0
_TICK_SECONDS = 0.2
_LONGEST_LINE = 500
_LONGEST_READ = 1 << 20


class Child(Protocol):
    """What is asked of a process, however it was started."""

    def wait(self, seconds: float) -> int | None:
        """Exit code, negative for a signal; None where it still runs after so long."""

    def send(self, number: int) -> None:
        """Send it a signal."""


def execute(child: Child, log: Path, on_lines: Callable[[list[str]], None]) -> tuple[int, str]:
    """Wait for a process and pass on what it writes; gives its exit code and its last words.

    Args:
        on_lines: called several times a second with the log's new lines, if there are any.

    Raises:
        Stopped: a signal came to this process; the run had it too, and its time to save.
    """
    tail = _Tail(log)
    with _forwarding(child) as received:
        try:
            while (code := child.wait(_TICK_SECONDS)) is None:
                on_lines(tail.lines())
        except KeyboardInterrupt:
            # From a terminal the process got it too.
            end = time.monotonic() + _SECONDS_TO_END
            while child.wait(_TICK_SECONDS) is None and time.monotonic() < end:
                pass
            child.send(signal.SIGTERM)
            raise
    on_lines(tail.lines(to_the_end=True))
    if received:
        name = signal.Signals(received[0]).name
        raise Stopped(f"stopped by {name}; the same command goes on", signum=received[0])
    return code, tail.last_words


def start(arguments: list[str], log: Path, lock: int, *, processes: int = 1) -> Child:
    """Start one command of `micl-bench`, in one process or under torchrun.

    Args:
        log: what it writes goes to the end of this file.
        lock: descriptor that it holds too.
    """
    with log.open("ab") as file:
        if processes > 1:
            return _Started(torchrun(arguments, processes), file.fileno(), lock)
        return _Forked(arguments, file.fileno())


def torchrun(arguments: list[str], processes: int) -> list[str]:
    """The command line that starts several processes on this machine."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*start, f"--nproc-per-node={processes}", "-m", "micl_bench", *arguments]


def preload(tasks: Iterable[str]) -> None:
    """Import what runs of these tasks will want, so that each need not."""
    wanted = set(tasks)
    modules = ["micl_bench.data.embedded"] if "data" in wanted else []
    if wanted - {"data"}:
        modules += ["micl_bench.engine.pretrain", *(f"micl_bench.tasks.{t}" for t in wanted - _OWN)]
    if wanted & {"ade20k", "coco"}:
        modules += ["micl_bench.openmmlab", "mmengine.runner"]
        modules += ["mmseg.models"] if "ade20k" in wanted else []
        modules += ["mmdet.models"] if "coco" in wanted else []
    with _without_touching_cuda():
        for module in modules:
            # The run itself will say what is not installed.
            with contextlib.suppress(ImportError, InputError):
                importlib.import_module(module)


@contextlib.contextmanager
def _without_touching_cuda() -> Iterator[None]:
    """Let mmengine ask whether there is CUDA without starting it, which no fork would survive."""
    name = "PYTORCH_NVML_BASED_CUDA_CHECK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


_OWN = {"data", "pretrain"}


class _Forked:
    def __init__(self, arguments: list[str], log: int) -> None:
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=_be_micl_bench, args=(arguments, log))
        self._process.start()

    def wait(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode

    def send(self, number: int) -> None:
        if self._process.is_alive() and self._process.pid:
            os.kill(self._process.pid, number)


def _be_micl_bench(arguments: list[str], log: int) -> None:
    from micl_bench.cli import run

    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    sys.stdout, sys.stderr = (
        open(descriptor, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    sys.argv = ["micl-bench", *arguments]
    run(arguments)


class _Started:
    def __init__(self, command: list[str], log: int, lock: int) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock]
        )

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: int) -> None:
        self._process.send_signal(number)


class _Tail:
    """New lines of a file that another process writes to."""

    def __init__(self, path: Path) -> None:
        self._path, self._rest = path, b""
        self._place = path.stat().st_size if path.exists() else 0
        self._last, self._error = "", ""

    @property
    def last_words(self) -> str:
        """The last line that tells of an error, or else the last line."""
        return self._error or self._last

    def lines(self, *, to_the_end: bool = False) -> list[str]:
        """Lines since the last call, printable and cut to a length that fits a screen."""
        found: list[str] = []
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._place)
            while block := file.read(_LONGEST_READ):
                self._place += len(block)
                *whole, self._rest = (self._rest + block).split(b"\n")
                found += map(_clean, whole)
                self._rest = self._rest[-_LONGEST_READ:]
        if to_the_end and self._rest:
            found.append(_clean(self._rest))
            self._rest = b""
        found = [line for line in found if line]
        for line in found:
            self._last = line
            if line.startswith(("error: ", "internal error: ")):
                self._error = line
        return found


def _clean(line: bytes) -> str:
    return printable(line.decode(errors="replace").strip())[:_LONGEST_LINE]


@contextlib.contextmanager
def _forwarding(child: Child) -> Iterator[list[int]]:
    """Pass on the signals that ask a run to save and leave; gives those that came."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        child.send(number)

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
