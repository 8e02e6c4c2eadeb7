"""Tables and lists for a terminal: plain text, folded to its width, and whole in files and pipes."""

import io
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from micl_bench.runtime.log import printable

# rich is imported where it is used: help and errors need none of it.
if TYPE_CHECKING:
    from rich.table import Table

_UNLIMITED = 1 << 20


def table_text(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[int] = (0,)
) -> str:
    """Return a table with a rule below its header.

    Args:
        words: numbers of the columns that hold words, which begin at their left; the other columns
            hold numbers, which end at their right.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, text in enumerate(header):
        title = Text(printable(text))
        table.add_column(title, justify="left" if number in words else "right", overflow="fold")
    return _rendered(table, rows)


def columns_text(rows: Iterable[Sequence[str]], *, indent: int = 0) -> str:
    """Return rows of words without a header, such as names with descriptions; empty for no rows."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    lines = _rendered(grid, rows, indent=indent).splitlines()
    return "\n".join(" " * indent + line for line in lines)


def _rendered(table: "Table", rows: Iterable[Sequence[str]], *, indent: int = 0) -> str:
    from rich.console import Console
    from rich.text import Text

    for row in rows:
        table.add_row(*(Text(printable(text), overflow="fold") for text in row))
    there = Console(file=sys.stdout)
    width = there.width - indent if there.is_terminal else _UNLIMITED
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
