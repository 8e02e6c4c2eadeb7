"""What a check found."""

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's."""

    level: Literal["ok", "warning", "problem"]
    """`problem`: something will fail, or numbers would be wrong. `warning`: it costs or limits."""
    subject: str
    found: str
    fix: str = ""
    """What to do about it; a command where one does it."""


def ok(subject: str | Path, found: str) -> Finding:
    """There is nothing to do."""
    return Finding(level="ok", subject=str(subject), found=found)


def warning(subject: str | Path, found: str, fix: str) -> Finding:
    """It works, with a cost or a limit."""
    return Finding(level="warning", subject=str(subject), found=found, fix=fix)


def problem(subject: str | Path, found: str, fix: str) -> Finding:
    """It does not work, or would give wrong numbers."""
    return Finding(level="problem", subject=str(subject), found=found, fix=fix)
