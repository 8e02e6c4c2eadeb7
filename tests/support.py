"""Names that test modules share."""

import subprocess
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

Run = Callable[..., subprocess.CompletedProcess[str]]
"""`run(*arguments, cwd=...)`: `micl-bench` as a process of its own."""
