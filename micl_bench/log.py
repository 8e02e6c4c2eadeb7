"""What people see while something runs, and what a program can read afterwards.

Progress goes to standard error: a live bar on a terminal, a line every few seconds elsewhere.
Metrics go to a file, one JSON object a line.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micl_bench.files import atomic_write

_LINE_EVERY_SECONDS = 10.0
_DRAW_EVERY_SECONDS = 0.1
_BAR_CELLS = 24

_outer: Callable[[], str] | None = None


def say(message: str) -> None:
    """Print one line for the person who waits, on standard error."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def inside(describe: Callable[[], str]) -> Iterator[None]:
    """Add an outer activity's own state ("demo: 4:10 left") to every progress line meanwhile."""
    global _outer
    previous, _outer = _outer, describe
    try:
        yield
    finally:
        _outer = previous


def clock(seconds: float) -> str:
    """Seconds as `m:ss`, or `h:mm:ss` from an hour on."""
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

    def __init__(self, label: str, *, total: int, done: int = 0) -> None:
        self.label, self.total, self.done = label, total, done
        self._first, self._note, self._start = done, "", time.monotonic()
        self._live = sys.stderr.isatty()
        self._next_draw = self._start if self._live else self._start + _LINE_EVERY_SECONDS

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._draw(last=kind is None)
        if self._live:
            sys.stderr.write("\n")

    @property
    def seconds_left(self) -> float:
        """From the mean speed since this run began; infinity before the first step."""
        steps = self.done - self._first
        elapsed = time.monotonic() - self._start
        return elapsed / steps * (self.total - self.done) if steps else float("inf")

    def step(self, note: str = "") -> None:
        """Count one step; `note` is a few words on the latest state."""
        self.done, self._note = self.done + 1, note
        if time.monotonic() >= self._next_draw:
            self._draw()

    def _draw(self, *, last: bool = False) -> None:
        every = _DRAW_EVERY_SECONDS if self._live else _LINE_EVERY_SECONDS
        self._next_draw = time.monotonic() + every
        if self._live:
            sys.stderr.write(f"\r\x1b[K{self._line(last)}")
            sys.stderr.flush()
        else:
            say(self._line(last))

    def _line(self, last: bool) -> str:
        share = self.done / self.total if self.total else 1.0
        full = round(share * _BAR_CELLS)
        if last:
            left = f"took {clock(time.monotonic() - self._start)}"
        elif self.done == self._first:
            left = "starting"
        else:
            left = f"{clock(self.seconds_left)} left"
        bar = "━" * full + "╌" * (_BAR_CELLS - full)
        parts = [f"{self.label} {bar} {share:4.0%}", left, self._note, _outer() if _outer else ""]
        return "  ".join(part for part in parts if part)


class MetricLog:
    """Appends one JSON object a line; lines from `first_step` on are dropped when a run resumes."""

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        kept = [json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] < first_step]
        atomic_write(path, "".join(kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Write one row; it holds at least `step`."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metric log; a last line cut by a kill is passed over, a missing file is empty."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
