"""A table as LaTeX with booktabs, ready for a paper; a whole one is split where it has too many columns.

A fragment needs `\\usepackage{array,booktabs,longtable}`; `to_document` makes a document of fragments.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.report.write.latex_text import escaped

_MOST_COLUMNS = 9
_LONGEST_FLOAT = 36
_WIDEST_SMALL_PRINT = 22
_WORDS = "l"
_WRAPPED = ">{\\raggedright\\arraybackslash}p{42mm}"
_LONGEST_WORDS = 24
_SOURCE = Column(key="source", group="", header="source", numeric=False)

_Panel = tuple[int, ...]
"""The numbers of columns that stand beside each other."""


def to_latex(table: Table) -> str:
    """A fragment: a float, or, where it is longer than a page, a table that runs over pages."""
    table = _with_sources(table)
    bodies = [_lines(table, panel) for panel in _panels(table.columns)]
    height = sum(map(len, bodies)) + len(table.footnotes)
    render = _float if height <= _LONGEST_FLOAT else _over_pages
    return render(table, list(zip(_panels(table.columns), bodies, strict=True)))


def to_document(names: Iterable[str]) -> str:
    """A document that inputs the fragments of these names, which lie beside it."""
    inputs = "\n\\clearpage\n".join(f"\\input{{{name}.tex}}" for name in names)
    return (
        "\\documentclass{article}\n"
        "\\usepackage[a4paper,landscape,margin=12mm]{geometry}\n"
        "\\usepackage{array,booktabs,longtable}\n"
        "\\begin{document}\n"
        f"{inputs}\n"
        "\\end{document}\n"
    )


def _with_sources(table: Table) -> Table:
    """Sources of published rows as a last column."""
    if not any(row.source for row in table.rows):
        return table
    rows = []
    for row in table.rows:
        cell = Cell(text=row.source, kind="words")
        rows.append(dataclasses.replace(row, cells=(*row.cells, cell)))
    return dataclasses.replace(table, columns=(*table.columns, _SOURCE), rows=tuple(rows))


def _panels(columns: Sequence[Column]) -> list[_Panel]:
    """Columns, those of one group together, in portions that a page is wide enough for."""
    panels: list[_Panel] = []
    for _, group in itertools.groupby(range(len(columns)), key=lambda n: columns[n].group or n):
        numbers = tuple(group)
        if panels and len(panels[-1]) + len(numbers) <= _MOST_COLUMNS:
            panels[-1] += numbers
        else:
            panels.append(numbers)
    return panels


def _float(table: Table, panels: list[tuple[_Panel, list[str]]]) -> str:
    lines = [
        "\\begin{table}[htbp]",
        "\\centering\\footnotesize",
        f"\\caption{{{_caption(table)}}}\\par\\medskip",
    ]
    for panel, body in panels:
        lines += [
            f"\\begin{{tabular}}{{{_alignment(table, panel)}}}",
            *_head(table, panel),
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            "\\par\\medskip",
        ]
    lines += [*_notes(table), "\\end{table}"]
    return "\n".join(lines) + "\n"


def _over_pages(table: Table, panels: list[tuple[_Panel, list[str]]]) -> str:
    lines = ["{\\footnotesize\\setlength{\\LTcapwidth}{\\linewidth}"]
    for number, (panel, body) in enumerate(panels):
        head = _head(table, panel)
        caption = [f"\\caption{{{_caption(table)}}}\\\\", *head, "\\endfirsthead"]
        lines += [
            f"\\begin{{longtable}}{{{_alignment(table, panel)}}}",
            *(caption if number == 0 else []),
            *head,
            "\\endhead",
            *body,
            "\\bottomrule",
            "\\end{longtable}",
        ]
    lines += [*_notes(table), "}"]
    return "\n".join(lines) + "\n"


def _alignment(table: Table, panel: _Panel) -> str:
    return _WORDS + "".join(_of_column(table, number) for number in panel)


def _of_column(table: Table, number: int) -> str:
    if table.columns[number].numeric:
        return "r"
    longest = max((len(row.cells[number].text) for row in table.rows), default=0)
    return _WRAPPED if longest > _LONGEST_WORDS else _WORDS


def _head(table: Table, panel: _Panel) -> list[str]:
    columns = [table.columns[number] for number in panel]
    lines = ["\\toprule"]
    if any(column.group for column in columns):
        cells, rules, place = [], [], 2
        for group, own in itertools.groupby(columns, key=lambda column: column.group):
            width = len(list(own))
            cells.append(f"\\multicolumn{{{width}}}{{c}}{{{escaped(group)}}}")
            rules += [f"\\cmidrule(lr){{{place}-{place + width - 1}}}"] if group else []
            place += width
        lines += [f" & {' & '.join(cells)} \\\\", "".join(rules)]
    headers = [escaped(column.header) for column in columns]
    return [*lines, f" & {' & '.join(headers)} \\\\", "\\midrule"]


def _lines(table: Table, panel: _Panel) -> list[str]:
    """The rows, each with its small print below it; a rule before the published ones."""
    lines = []
    in_full = len({cell.against for row in table.rows for cell in row.cells if cell.delta}) > 1
    for before, row in zip((None, *table.rows), table.rows, strict=False):
        if before and before.kind != row.kind:
            lines.append("\\midrule")
        lines += _row(row, [row.cells[number] for number in panel], in_full=in_full)
    return lines


def _row(row: Row, cells: list[Cell], *, in_full: bool) -> list[str]:
    """`in_full`: differences with what they are from, where the caption does not tell."""
    label = escaped(row.label) + ("~$\\dagger$" if row.kind == "published" else "")
    lines = [f"{label} & {' & '.join(_cell(cell, in_full=in_full) for cell in cells)} \\\\"]
    small_print = [_packed(cell.details) for cell in cells]
    for details in itertools.zip_longest(*small_print, fillvalue=""):
        small = [f"{{\\scriptsize {escaped(detail)}}}" if detail else "" for detail in details]
        lines.append(f" & {' & '.join(small)} \\\\")
    return ["\\\\*".join(line.rsplit("\\\\", 1)) for line in lines[:-1]] + lines[-1:]


def _packed(details: tuple[str, ...]) -> list[str]:
    """Small print in lines that do not widen a column."""
    lines: list[str] = []
    for detail in details:
        if lines and len(lines[-1]) + len(detail) < _WIDEST_SMALL_PRINT:
            lines[-1] += f"; {detail}"
        else:
            lines.append(detail)
    return lines


def _cell(cell: Cell, *, in_full: bool) -> str:
    text = escaped(cell.text)
    text = f"\\textbf{{{text}}}" if cell.best else text
    text += "~$\\approx$" if cell.tied else ""
    text += f"\\textsuperscript{{{escaped(cell.mark)}}}" if cell.mark else ""
    difference = cell.difference if in_full else cell.delta
    return text + (f" {{\\scriptsize {escaped(difference)}}}" if difference else "")


def _caption(table: Table) -> str:
    return f"{escaped(table.title)}. {escaped(table.caption)}"


def _notes(table: Table) -> list[str]:
    """Footnotes and stand-ins as small paragraphs."""
    notes = [f"\\textsuperscript{{{mark}}}~{escaped(text)}" for mark, text in table.footnotes]
    notes += [
        f"{escaped(name)} stands in for {escaped(public)}: no benchmark numbers."
        for name, public in table.stands_for
    ]
    if not notes:
        return []
    return ["{\\scriptsize\\raggedright", *(f"{note}\\par" for note in notes), "}"]
