"""What stands above a table: what it is of, its protocols, how to read it."""

import re
from collections.abc import Iterable

from micl_bench.report.tables.measured_rows import Measured
from micl_bench.report.tables.model import Row
from micl_bench.report.tables.specs._spec import TableSpec

_BEST = "Bold is the best of its protocol and network; ≈ marks what a test does not tell from it."
_SEEDS = "± is the standard deviation over seeds, n - 1."
_INTERVALS = "Ranges are 95 % intervals: over images for one run, Student's t over seeds."
_P = "p is against the best, adjusted by Holm's method over the column."
_PUBLISHED = (
    "Rows with a dagger are published numbers, under the protocols of their notes; they are not "
    "compared with measured ones."
)


def caption_of(spec: TableSpec, found: Measured, rows: Iterable[Row]) -> str:
    """The spec's words, the protocols where each column has one, and how to read what is there."""
    cells = [cell for row in rows for cell in row.cells]
    sentences = [spec.caption, *found.protocols]
    sentences += [_INTERVALS] if any(cell.interval for cell in cells) else []
    sentences += [_SEEDS] if any(cell.deviation is not None for cell in cells) else []
    sentences += [_BEST] if any(cell.best for cell in cells) else []
    sentences += [_P] if any("p = " in line for cell in cells for line in cell.details) else []
    if against := dict.fromkeys(cell.against for cell in cells if cell.delta):
        sentences.append(f"With a sign: {', or '.join(against)}.")
    sentences += [_PUBLISHED] if any(row.kind == "published" for row in rows) else []
    return " ".join(sentences)


def slug(words: str) -> str:
    """Words as they may stand in a file name and an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:50] or "set"
