"""One run as a process of its own, its output in a log file that outlives both."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from micl_bench.runtime.log import printable
from micl_bench.suites.commands import Process, command_line

_LONGEST_LINE = 500
_LONGEST_READ = 1 << 20


def execute(
    arguments: list[str],
    log: Path,
    on_lines: Callable[[list[str]], None],
    *,
    processes: int = 1,
) -> tuple[int, str]:
    """Carry out one command of `micl-bench`, in one process or under torchrun.

    Args:
        log: what it writes goes to the end of this file.
        on_lines: called several times a second with the log's new lines, if there are any.

    Returns:
        exit code, negative for a signal, and its last words.

    Raises:
        Stopped: a signal came to this process; the run had it too, and its time to save.
    """
    with log.open("ab") as file:
        tail = _Tail(log)
        command = command_line(arguments, processes)
        with Process(command, output=file) as process:
            code = process.wait(lambda: on_lines(tail.lines()))
    on_lines(tail.lines(to_the_end=True))
    return code, tail.last_words


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
