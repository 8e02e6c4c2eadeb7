"""The findings of checks."""

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding: a line of the doctor."""

    level: Literal["ok", "warning", "problem"]
    """`problem`: something will fail, or numbers would be wrong. `warning`: a cost or a limit."""
    subject: str
    found: str
    fix: str = ""
    """The fix, as a command where there is one."""


def ok(subject: str | Path, found: str) -> Finding:
    """Return a finding that needs no fix."""
    return Finding(level="ok", subject=str(subject), found=found)


def warning(subject: str | Path, found: str, fix: str) -> Finding:
    """Return a finding that costs or limits something."""
    return Finding(level="warning", subject=str(subject), found=found, fix=fix)


def problem(subject: str | Path, found: str, fix: str) -> Finding:
    """Return a finding that makes something fail, or would give wrong numbers."""
    return Finding(level="problem", subject=str(subject), found=found, fix=fix)
