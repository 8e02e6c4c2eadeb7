"""What a check found."""

import dataclasses
from typing import Literal

from micl_bench.data.faults import Fault, reason

__all__ = ["Finding", "Level", "of_fault", "ok", "problem", "reason", "warning"]

Level = Literal["ok", "warning", "problem"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's."""

    level: Level
    """`problem`: something will fail, or numbers would be wrong. `warning`: it costs or limits."""
    subject: str
    found: str
    mend: str = ""
    """What to do about it; a command where one does it."""


def ok(subject: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(level="ok", subject=subject, found=found)


def warning(subject: str, found: str, mend: str) -> Finding:
    """It works, but."""
    return Finding(level="warning", subject=subject, found=found, mend=mend)


def problem(subject: str, found: str, mend: str) -> Finding:
    """It does not work, or would give wrong numbers."""
    return Finding(level="problem", subject=subject, found=found, mend=mend)


def of_fault(subject: str, fault: Fault) -> Finding:
    """A fault of data, as `eval` would be refused by it."""
    level: Level = "problem" if fault.fatal else "warning"
    return Finding(level=level, subject=subject, found=fault.found, mend=fault.fix)
