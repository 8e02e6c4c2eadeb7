"""One run of a suite: a call in this process, or processes of its own; its output in a log file.

A process of its own ends when this one does. It is a session of its own: a Ctrl-C in the terminal
reaches it once, through whoever started it. Killed or crashed, it takes nothing else along.
"""

import contextlib
import ctypes
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from micl_bench.runs.signals import StopSignals
from micl_bench.runtime.errors import Stopped
from micl_bench.runtime.log import printable
from micl_bench.runtime.processes import Patience
from micl_bench.runtime.streams import output_into

_TICK_SECONDS = 0.2
_LONGEST_LINE = 500
_LONGEST_READ = 1 << 20
_INTERRUPTED = 130
_PEAK_MEMORY = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"
_SECONDS_TO_END = 10.0
_PR_SET_PDEATHSIG = 1

Call = Callable[[list[str]], None]
"""A function that runs one command of `micl-bench` and exits with its code, as `cli.app.run` does."""


def execute(
    call: Call,
    arguments: list[str],
    log: Path,
    on_lines: Callable[[list[str]], None],
    *,
    processes: int = 1,
) -> tuple[int, str]:
    """Carry out one command of `micl-bench`, in this process or under torchrun.

    Args:
        log: what it writes goes to the end of this file.
        on_lines: called several times per second with the log's new lines, if there are any.

    Returns:
        The exit code, negative for a signal, and the last line that it wrote.

    Raises:
        Stopped: a signal came to this process; the run had it too, and its time to save.
        KeyboardInterrupt: the run was interrupted.
    """
    with log.open("ab") as file:
        tail = _Tail(log)

        def look() -> None:
            on_lines(tail.lines())

        if processes > 1:
            with Process(command_line(arguments, processes), output=file) as process:
                code = process.wait(look)
        else:
            code = _called(call, arguments, file, look)
    on_lines(tail.lines(to_the_end=True))
    return code, tail.last_words


def _called(call: Call, arguments: list[str], file: IO[bytes], look: Callable[[], object]) -> int:
    """Run a command in this process, as if it were alone in it, and return its exit code.

    A training saves at a signal; anything else ends as at a Ctrl-C.
    """
    _begin_anew()
    code: object = 0
    asked = StopSignals(then=lambda number: signal.default_int_handler(number, None))
    try:
        with asked, _repeated(look), output_into(file), warnings.catch_warnings():
            call(arguments)
    except SystemExit as end:
        code = end.code or 0
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if asked.signum:
        name = signal.Signals(asked.signum).name
        raise Stopped(f"stopped by {name}; the same command goes on", signum=asked.signum)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 1


def _begin_anew() -> None:
    """Free what the run before held, and forget how much that was; what was compiled goes too."""
    gc.collect()
    with contextlib.suppress(OSError):
        _PEAK_MEMORY.write_text(_FORGET_PEAK)
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if torch and "torch._dynamo" in sys.modules:
        torch.compiler.reset()


@contextlib.contextmanager
def _repeated(look: Callable[[], object]) -> Iterator[None]:
    """Call `look` several times per second while the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_TICK_SECONDS):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Tail:
    """The new lines of a file that somebody else writes to."""

    def __init__(self, path: Path) -> None:
        self._path, self._rest = path, b""
        self._place = path.stat().st_size if path.exists() else 0
        self._last, self._error = "", ""

    @property
    def last_words(self) -> str:
        """The last line that names an error, or else the last line."""
        return self._error or self._last

    def lines(self, *, to_the_end: bool = False) -> list[str]:
        """Return the lines since the last call, printable and short enough for a screen."""
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


def command_line(arguments: Sequence[str], processes: int = 1) -> list[str]:
    """Return the words that start a `micl-bench` command in its own processes, several by torchrun."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*start, "-m", "micl_bench", *arguments]


class Process:
    """A process that this one has started, and that ends with it.

    Example:
        with Process(command_line(["eval", ...])) as process:
            code = process.wait()
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: IO[bytes] | None = None,
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            output: the file that gets all it writes; None for this process's own output.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            # No module of a working folder takes the place of an installed one, as for `micl-bench`.
            env={**(environment or os.environ), "PYTHONSAFEPATH": "1"},
            start_new_session=True,
            # What it starts as has no threads yet, and all that is called was looked up here.
            preexec_fn=_ending_with(os.getpid()),
        )

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no process behind, whatever was raised meanwhile."""
        if self._process.poll() is None:
            self._send(signal.SIGTERM)
            if not self._ends_soon():
                # It leads its session: what it started goes too.
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, on_tick: Callable[[], None] | None = None) -> int:
        """Wait for the end, and return the exit code, negative for a signal.

        Signals that ask to save and leave are passed on, and a Ctrl-C too.

        Args:
            on_tick: called several times per second.

        Raises:
            Stopped: a signal came to this process; the other had it too, and its time to save.
        """
        with StopSignals(then=self._send) as asked:
            try:
                while (code := self._ended(_TICK_SECONDS)) is None:
                    if on_tick:
                        on_tick()
            except KeyboardInterrupt:
                self._interrupt()
                raise
        if asked.signum:
            name = signal.Signals(asked.signum).name
            raise Stopped(f"stopped by {name}; the same command goes on", signum=asked.signum)
        return code

    def _interrupt(self) -> None:
        """Pass a Ctrl-C on; who does not heed it in time, or at a second one, is ended."""
        self._send(signal.SIGINT)
        with contextlib.suppress(KeyboardInterrupt):
            self._ends_soon()

    def _ends_soon(self) -> bool:
        patience = Patience(_SECONDS_TO_END, every=_TICK_SECONDS)
        while self._ended(_TICK_SECONDS) is None:
            if patience.ends():
                return False
        return True

    def _ended(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def _ending_with(parent: int) -> Callable[[], None] | None:
    """Return what a new process calls first of all: it asks for SIGTERM when its parent is gone.

    SIGTERM, because a training then saves its step, and torchrun ends its processes.
    """
    if sys.platform != "linux":
        return None
    return functools.partial(_end_with, ctypes.CDLL(None).prctl, parent)


def _end_with(prctl: Callable[..., int], parent: int) -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # It was gone already.
        os._exit(1)
