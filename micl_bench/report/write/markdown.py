"""A table as Markdown."""

import functools

from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.runtime.log import printable

_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]|~#"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


def to_markdown(table: Table) -> str:
    """Title, caption, the table and its notes; ends with a line break."""
    with_source = any(row.source for row in table.rows)
    header = ["", *map(_header, table.columns), *(["source"] if with_source else [])]
    rule = [":--", *("--:" if column.numeric else ":--" for column in table.columns)]
    rule += [":--"] if with_source else []
    lines = [f"# {_escaped(table.title)}", "", _escaped(table.caption), ""]
    lines += [_line(header), _line(rule)]
    lines += [_line(_row(row, with_source=with_source)) for row in table.rows]
    lines += ["", _escaped(table.verdict)] if table.verdict else []
    lines += [f"\n<sup>{mark}</sup> {_escaped(text)}" for mark, text in table.footnotes]
    lines += [
        f"\n{_escaped(name)} stands in for {_escaped(public)}: no benchmark numbers."
        for name, public in table.stands_for
    ]
    return "\n".join(lines) + "\n"


def _header(column: Column) -> str:
    return _escaped(f"{column.group}: {column.header}" if column.group else column.header)


def _row(row: Row, *, with_source: bool) -> list[str]:
    label = _escaped(row.label) + (" †" if row.kind == "published" else "")
    return [label, *map(_cell, row.cells), *([_escaped(row.source)] if with_source else [])]


def _cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    text = f"**{text}**" if cell.best else f"{text} ≈" if cell.tied else text
    text += f"<sup>{cell.mark}</sup>" if cell.mark else ""
    small = [*([cell.difference] if cell.delta else []), *cell.details]
    return text + (f" ({_escaped('; '.join(small))})" if small else "")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


# Most cells of a large table say what another one says.
@functools.lru_cache(maxsize=1 << 14)
def _escaped(text: str) -> str:
    return printable(text).translate(_SPECIAL)
