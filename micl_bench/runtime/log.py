"""Messages, progress bars and metric logs of a command that runs.

Progress goes to standard error: a live bar on a terminal, a line every few seconds elsewhere.
Metrics go to a file, one JSON object per line. Tables are folded to a terminal's width, and whole in
files and pipes.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.wording import counted

_LINE_EVERY_SECONDS = 10.0
_TEXTS = ("held_out_digest",)
"""The names in a row of metrics whose values are text; all others are numbers."""


def say(message: str) -> None:
    """Print a message on standard error; of processes that train together, the first one does."""
    if process_number() == 0:
        print("\n".join(map(printable, message.split("\n"))), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return a text without control characters, which could rewrite the terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


def process_number() -> int:
    """Return the number of this process among those started together, from 0."""
    return int(os.environ.get("RANK", "0"))


def clock(seconds: float) -> str:
    """Return seconds as `m:ss`, or as `h:mm:ss` from an hour on; `?` for infinity."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Counts steps of known number; shows how many are done and how long is left.

    Example:
        with Progress("k-NN", total=40) as progress:
            for batch in batches:
                progress.step("top-1 91.2 %")
    """

    def __init__(self, label: str, *, total: int, done: int = 0, quiet: bool = False) -> None:
        self.label, self.total, self.done = printable(label), total, done
        self._first, self._note, self._start = done, "", time.monotonic()
        self._quiet, self._live = quiet, sys.stderr.isatty()
        self._next_line = self._start + _LINE_EVERY_SECONDS

    def __enter__(self) -> "Progress":
        if self._live and not self._quiet:
            # Here: `micl-bench --help` and errors show no progress.
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bars

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(24),
                TextColumn("{task.fields[state]}", markup=False),
            )
            # The terminal itself: who redirects standard error meanwhile does not mean the bar.
            console = Console(file=sys.stderr)
            self._bar = Bars(
                *columns, console=console, redirect_stdout=False, redirect_stderr=False
            )
            self._task = self._bar.add_task(
                self.label, total=self.total, completed=self.done, state=""
            )
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._quiet:
            return
        if self._live:
            self._bar.update(self._task, completed=self.done, state=self._state(kind is None))
            self._bar.stop()
        elif kind is None:
            say(f"{self.label}  {self._state(True)}")

    @property
    def seconds_left(self) -> float:
        """From the mean speed since this run began; infinity before the first step."""
        steps = self.done - self._first
        elapsed = time.monotonic() - self._start
        return elapsed / steps * (self.total - self.done) if steps else float("inf")

    def step(self, note: str = "") -> None:
        """Count one step; `note` is a few words on the latest state."""
        self.done, self._note = self.done + 1, note
        if self._quiet:
            return
        if self._live:
            self._bar.update(self._task, completed=self.done, state=self._state(False))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_EVERY_SECONDS
            say(f"{self.label}  {self._state(False)}")

    def _state(self, finished: bool) -> str:
        elapsed = time.monotonic() - self._start
        time_word = f"took {clock(elapsed)}" if finished else f"{clock(self.seconds_left)} left"
        share = f"{self.done / self.total if self.total else 1.0:4.0%}"
        return "  ".join(part for part in (share, time_word, self._note) if part)


class MetricLog:
    """Appends one JSON object per line; lines from `first_step` on are dropped when a run resumes."""

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        rows, damaged = _read(path)
        if damaged:
            say(f"{path}: {damaged}; left out, as the run needs none of it")
        kept = [json.dumps(row) + "\n" for row in _steps(rows) if row["step"] < first_step]
        self._path = path
        atomic_write(path, "".join(kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Write one row; it holds at least `step`."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def rows(self) -> list[dict[str, Any]]:
        """Every row written so far, those of earlier processes included."""
        return _steps(read_metrics(self._path))

    def flush(self) -> None:
        """Bring every row to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _steps(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a step whose values have their types: another's would end whoever counts on them."""
    return [
        row
        for row in rows
        if type(row.get("step")) is int and all(_fits(name, value) for name, value in row.items())
    ]


def _fits(name: str, value: object) -> bool:
    return isinstance(value, str) if name in _TEXTS else type(value) in (int, float)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metric log; a damaged line is passed over, a missing file is empty."""
    return _read(path)[0]


def _read(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows, and in words which lines are none; empty where all are."""
    if not path.exists():
        return [], ""
    rows, damaged = [], []
    *lines, last = path.read_bytes().split(b"\n")
    for number, line in enumerate([*lines, last] if last else lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            damaged.append(number)
    if not damaged:
        return rows, ""
    if last and damaged == [len(lines) + 1]:
        return rows, "its last line was cut, as by a kill"
    shown = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
    return rows, f"{counted(len(damaged), 'damaged line')} ({shown})"
