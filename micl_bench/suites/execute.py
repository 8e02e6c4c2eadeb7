"""One run of a suite: a call in this process, or torchrun's processes; its output in a log file."""

import contextlib
import gc
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from micl_bench.runs.signals import StopSignals
from micl_bench.runtime.errors import Stopped
from micl_bench.runtime.log import printable
from micl_bench.runtime.streams import output_into
from micl_bench.suites.commands import Process, command_line

_TICK_SECONDS = 0.2
_LONGEST_LINE = 500
_LONGEST_READ = 1 << 20
_INTERRUPTED = 130
_PEAK_MEMORY = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"

Call = Callable[[list[str]], None]
"""Runs one command of `micl-bench` and leaves with its exit code, as `cli.app.run` does."""


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
        on_lines: called several times a second with the log's new lines, if there are any.

    Returns:
        exit code, negative for a signal, and its last words.

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
    """Exit code of a command in this process; it finds and leaves the process as if it were alone.

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
    """Look several times a second meanwhile."""
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
    """New lines of a file that somebody else writes to."""

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
