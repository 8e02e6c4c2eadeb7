"""A comparison table, ready to be printed in any form: Markdown, LaTeX, CSV, HTML.

A cell's text is plain; each renderer escapes it and adds its own signs for best and tied.
"""

import dataclasses
import itertools
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One number or word, what surrounds it, and the records that it comes from."""

    text: str
    """`83.6`, `83.6 ± 0.1`, `n/a`, or a word."""
    value: float | None = None
    """What sorting and CSV use, finite, in full precision; None for `n/a` and words."""
    kind: Literal["measured", "published", "missing", "words"]
    details: tuple[str, ...] = ()
    """Small print: the interval, `3 seeds`, what a drop is measured from."""
    best: bool = False
    """The best of its protocol in the column, where two or more compete."""
    tied: bool = False
    """Tested, and no difference from that best is shown."""
    delta: str = ""
    """Difference from the baseline's cell, `+1.2`; empty where there is none."""
    against: str = ""
    """Its unit and what it is from: `points against random weights`."""
    records: tuple[str, ...] = ()
    """Ids of the records, or of the one published reference, that it comes from."""
    mark: str = ""
    """Marks of its footnotes, with commas: its protocol, where protocols differ, and its tests."""
    deviation: float | None = None
    """Standard deviation over `runs` values; None for a single one."""
    interval: tuple[float, float] | None = None
    """At 95 %, in full precision: over images for one run, Student's t over several."""
    runs: int = 0
    """How many values a measured number is the mean of."""

    @property
    def difference(self) -> str:
        """In full, `+1.2 points against random weights`, or nothing."""
        return f"{self.delta} {self.against}" if self.delta else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """What stands below one header."""

    key: str
    group: str
    """Header over several columns; empty for none."""
    header: str
    """With the unit where it is known."""
    numeric: bool
    higher_is_better: bool | None = None
    """None where values are not ranked."""

    @property
    def order(self) -> Literal["words", "high", "low"]:
        """What a reader sees first who sorts by it: the high values, the low ones, words from A."""
        if not self.numeric:
            return "words"
        return "low" if self.higher_is_better is False else "high"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One network, under one training and protocol, over all columns."""

    label: str
    kind: Literal["measured", "published"]
    cells: tuple[Cell, ...]
    """In the order of the columns."""
    source: str = ""
    """Of a published row: where its numbers stand."""


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
    """Where our method leads and where it does not, in sentences; empty where nothing says so."""
    stands_for: tuple[tuple[str, str], ...] = ()
    """Embedded set and the public set that it stands in for."""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headers over columns, each with the number of columns below it."""
        groups = itertools.groupby(self.columns, key=lambda column: column.group)
        return [(group, len(list(columns))) for group, columns in groups]
