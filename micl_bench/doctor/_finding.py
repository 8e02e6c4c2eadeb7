"""What a check found."""

import dataclasses
from typing import Literal

from micl_bench.data.faults import Fault


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's."""

    level: Literal["ok", "warning", "problem"]
    """`problem`: something will fail, or numbers would be wrong. `warning`: it costs or limits."""
    subject: str
    found: str
    fix: str = ""
    """What to do about it; a command where one does it."""


def ok(subject: str, found: str) -> Finding:
    """There is nothing to do."""
    return Finding(level="ok", subject=subject, found=found)


def warning(subject: str, found: str, fix: str) -> Finding:
    """It works, with a cost or a limit."""
    return Finding(level="warning", subject=subject, found=found, fix=fix)


def problem(subject: str, found: str, fix: str) -> Finding:
    """It does not work, or would give wrong numbers."""
    return Finding(level="problem", subject=subject, found=found, fix=fix)


def of_fault(subject: str, fault: Fault) -> Finding:
    """A fault of data, as `eval` would be refused by it or would report it."""
    return (problem if fault.fatal else warning)(subject, fault.found, fault.fix)
