"""A picture in a file of its own, in the format that the file's name ends in."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from micl_bench.files import atomic_write
from micl_bench.report.palette import STYLE

# No date, no software version, no random names inside: equal pictures are equal bytes.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}
_REPEATABLE: dict[Any, Any] = {"svg.hashsalt": "micl-bench"}


def save_picture(path: Path, draw: Callable[[], Figure]) -> None:
    """Draw under the report's style and save; `path` ends in .png, .pdf or .svg."""
    kind = path.suffix.lower().removeprefix(".")
    buffer = io.BytesIO()
    with matplotlib.rc_context({**STYLE, **_REPEATABLE}):
        draw().savefig(
            buffer, format=kind, bbox_inches="tight", pad_inches=0.06, metadata=_METADATA[kind]
        )
    atomic_write(path, buffer.getvalue())
