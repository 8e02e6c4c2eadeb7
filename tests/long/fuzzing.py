"""Thousands of odd inputs through `micl-bench`, each in a process of its own that is watched.

A command may refuse what it is given, in one line and with exit code 2, or take it. It may not end in
any other way, take more than `LONGEST` seconds, or hold more than `MOST` bytes.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from support import Command

LONGEST = 20.0
"""Seconds: what a reader of bad input can be asked to wait; what these inputs need is under one."""
MOST = 2 << 30
"""Bytes of resident memory. An import of torch and timm holds some 600 MiB of them."""
# Beyond this a process is stopped by the kernel: a bomb must not take the machine down with it.
_STOPPED_AT = 8 << 30
_LONGEST_MESSAGE = 1000


@dataclasses.dataclass(frozen=True)
class Ran:
    """One command that ended, or was killed for its time."""

    words: tuple[str, ...]
    code: int
    stderr: str
    seconds: float
    peak: int
    """Bytes of resident memory; 0 where the process was killed."""

    @property
    def complaint(self) -> str:
        """What is wrong with how it ended; empty if nothing is."""
        if self.seconds > LONGEST:
            return f"took over {LONGEST:g} s"
        if self.code not in (0, 2):
            return f"exit code {self.code}: {self.stderr[-300:]}"
        if self.peak > MOST:
            return f"held {self.peak / 2**20:,.0f} MiB"
        if "Traceback" in self.stderr:
            return f"a stack trace: {self.stderr[-300:]}"
        errors = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        if self.code == 2 and len(errors) != 1:
            return f"{len(errors)} lines of error: {self.stderr[-300:]}"
        if self.code == 2 and len(errors[0]) > _LONGEST_MESSAGE:
            return f"a line of {len(errors[0]):,} characters"
        return ""


def ran(*words: object, cwd: Path) -> Ran:
    """Run one command to its end, or for `LONGEST` seconds."""
    with tempfile.NamedTemporaryFile("r") as peak:
        began = time.monotonic()
        command = Command(*words, cwd=cwd, largest_memory=_STOPPED_AT, peak=Path(peak.name))
        while command.is_running() and time.monotonic() - began < LONGEST:
            time.sleep(0.01)
        seconds = time.monotonic() - began
        command.kill()
        done = command.wait()
        return Ran(
            words=tuple(map(str, words)),
            code=done.returncode,
            stderr=done.stderr,
            seconds=seconds,
            peak=int(peak.read() or 0),
        )


def require_no_complaint(
    cases: Iterable[tuple[str, Callable[[], Ran]]], *, taken: float = 0.0
) -> None:
    """Run every case and raise an AssertionError that lists all that ended wrongly, by their names.

    Args:
        taken: share of the cases that is taken at least: where all are refused, what comes after the
            first check is never tried.
    """
    wrong, number, accepted = [], 0, 0
    for name, case in cases:
        number += 1
        outcome = case()
        accepted += outcome.code == 0
        if outcome.complaint:
            wrong.append(f"{name}: {' '.join(outcome.words)[:200]}\n    {outcome.complaint}")
    assert number
    assert not wrong, f"{len(wrong)} of {number:,} cases\n" + "\n".join(wrong[:40])
    assert accepted >= taken * number, f"only {accepted} of {number:,} cases were taken"
