"""A table as Markdown."""

from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.runtime.log import printable

_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]|~#"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)


def to_markdown(table: Table) -> str:
    """Return title, caption, the table and its notes; ends with a line break."""
    with_source = any(row.source for row in table.rows)
    header = ["", *map(_header, table.columns), *(["source"] if with_source else [])]
    rule = [":--", *("--:" if column.numeric else ":--" for column in table.columns)]
    rule += [":--"] if with_source else []
    lines = [f"# {escaped(table.title)}", "", escaped(table.caption), ""]
    lines += [_line(header), _line(rule)]
    lines += [_line(_row(row, with_source=with_source)) for row in table.rows]
    lines += ["", escaped(table.verdict)] if table.verdict else []
    lines += [f"\n<sup>{mark}</sup> {escaped(text)}" for mark, text in table.footnotes]
    lines += [
        f"\n{escaped(name)} stands in for {escaped(public)}: no benchmark numbers."
        for name, public in table.stands_for
    ]
    return "\n".join(lines) + "\n"


def _header(column: Column) -> str:
    return escaped(f"{column.group}: {column.header}" if column.group else column.header)


def _row(row: Row, *, with_source: bool) -> list[str]:
    label = escaped(row.label) + (" †" if row.kind == "published" else "")
    return [label, *map(_cell, row.cells), *([escaped(row.source)] if with_source else [])]


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    text = f"**{text}**" if cell.best else f"{text} ≈" if cell.tied else text
    text += f"<sup>{cell.mark}</sup>" if cell.mark else ""
    small = [*([cell.difference] if cell.delta else []), *cell.details]
    return text + (f" ({escaped('; '.join(small))})" if small else "")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Escape a text for Markdown, without its control characters."""
    return printable(text).translate(_SPECIAL)
