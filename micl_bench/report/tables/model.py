"""A comparison table, ready to be printed in any form: Markdown, LaTeX, CSV, HTML.

A cell's text is plain; each renderer escapes it and adds its own signs for best and tied.
"""

import dataclasses
import itertools
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One number or word, its signs and small print, and the records behind it."""

    text: str
    """`83.6`, `83.6 ± 0.1`, `n/a`, or a word."""
    value: float | None = None
    """The finite number for sorting and CSV, in full precision; None for `n/a` and words."""
    kind: Literal["measured", "published", "missing", "words"]
    details: tuple[str, ...] = ()
    """Small print: the interval, `3 seeds`, the clean accuracy of a drop."""
    best: bool = False
    """The best of its protocol in the column, where two or more compete."""
    tied: bool = False
    """True where a test shows no difference from that best."""
    delta: str = ""
    """Difference from the baseline's cell, `+1.2`; empty where there is none."""
    against: str = ""
    """Unit and baseline of the difference: `points against random weights`."""
    records: tuple[str, ...] = ()
    """Ids of the records, or of the one published reference, behind the cell."""
    mark: str = ""
    """Marks of its footnotes, with commas: its protocol, where protocols differ, and its tests."""
    deviation: float | None = None
    """Standard deviation over `runs` values; None for a single one."""
    interval: tuple[float, float] | None = None
    """The 95 % interval in full precision: over images for one run, Student's t over several."""
    runs: int = 0
    """Number of values that a measured number is the mean of."""

    @property
    def difference(self) -> str:
        """The difference in full, `+1.2 points against random weights`; empty where there is none."""
        return f"{self.delta} {self.against}" if self.delta else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    key: str
    group: str
    """Header over several columns; empty for none."""
    header: str
    """The header, with the unit where it is known."""
    numeric: bool
    higher_is_better: bool | None = None
    """None where values are not ranked."""

    @property
    def order(self) -> Literal["words", "high", "low"]:
        """The order of sorting: high values first, low ones first, or words from A."""
        if not self.numeric:
            return "words"
        return "low" if self.higher_is_better is False else "high"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One network, under one training and protocol, over all columns."""

    label: str
    kind: Literal["measured", "published"]
    cells: tuple[Cell, ...]
    """The cells in the order of the columns."""
    source: str = ""
    """The source of a published row's numbers; empty for a measured row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Columns, rows, and the notes below them."""

    name: str
    """Safe in a file name and an anchor."""
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[tuple[str, str], ...]
    """Mark and text."""
    verdict: str = ""
    """Sentences on where our method leads and where it does not; empty where nothing was compared."""
    stands_for: tuple[tuple[str, str], ...] = ()
    """Embedded set and the public set that it stands in for."""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headers over columns, each with the number of columns below it."""
        groups = itertools.groupby(self.columns, key=lambda column: column.group)
        return [(group, len(list(columns))) for group, columns in groups]
