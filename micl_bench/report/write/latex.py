"""A table as LaTeX with booktabs, ready for a paper; one with too many columns is split.

Any text is printed with the fonts that every installation has.
A fragment needs `\\usepackage{array,booktabs,longtable}`; `to_document` makes a document of fragments.
"""

import dataclasses
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence

from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.runtime.log import printable

_MOST_COLUMNS = 9
_LONGEST_FLOAT = 36
_WIDEST_SMALL_PRINT = 22
_WRAPPED = ">{\\raggedright\\arraybackslash}p{42mm}"
_LONGEST_WORDS = 24
_SOURCE = Column(key="source", group="", header="source", numeric=False)

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    # No ligature.
    "`": "{}`{}",
    # No argument of the line break before it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    **{character: f"\\{character}" for character in "{}$&#%_"},
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "†": r"$\dagger$",
    "°": r"$^\circ$",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "ø": r"\o{}",
    "ł": r"\l{}",
}
_BETWEEN = {"-": "-{}", "/": r"\slash{}"}
_ACCENTS = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0306": r"\u",
    "\u0307": r"\.",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030b": r"\H",
    "\u030c": r"\v",
    "\u0327": r"\c",
}
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)

_Panel = list[int]
"""The numbers of columns that stand beside each other."""


def to_latex(table: Table) -> str:
    """Return a fragment: a float, or, where it is longer than a page, a table that runs over pages."""
    if any(row.source for row in table.rows):
        table = _with_sources(table)
    panels = _panels(table.columns)
    bodies = [_body(table, panel) for panel in panels]
    caption = f"{escaped(table.title)}. {escaped(table.caption)}"
    is_float = sum(map(len, bodies)) + len(table.footnotes) <= _LONGEST_FLOAT
    if is_float:
        lines = [
            "\\begin{table}[htbp]",
            "\\centering\\footnotesize",
            f"\\caption{{{caption}}}\\par\\medskip",
        ]
    else:
        lines = ["{\\footnotesize\\setlength{\\LTcapwidth}{\\linewidth}"]
    for number, (panel, body) in enumerate(zip(panels, bodies, strict=True)):
        alignment = "l" + "".join(_alignment(table, column) for column in panel)
        head = _head([table.columns[column] for column in panel])
        if is_float:
            lines += [f"\\begin{{tabular}}{{{alignment}}}", *head]
        else:
            first = [f"\\caption{{{caption}}}\\\\", *head, "\\endfirsthead"] if number == 0 else []
            lines += [f"\\begin{{longtable}}{{{alignment}}}", *first, *head, "\\endhead"]
        lines += [*body, "\\bottomrule"]
        lines += ["\\end{tabular}", "\\par\\medskip"] if is_float else ["\\end{longtable}"]
    lines += [*_notes(table), "\\end{table}" if is_float else "}"]
    return "\n".join(lines) + "\n"


def to_document(names: Iterable[str]) -> str:
    """Return a document that inputs the fragments of these names, which lie beside it."""
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
    """Return the table with the sources of published rows as a last column."""
    rows = [
        dataclasses.replace(row, cells=(*row.cells, Cell(text=row.source, kind="words")))
        for row in table.rows
    ]
    return dataclasses.replace(table, columns=(*table.columns, _SOURCE), rows=tuple(rows))


def _panels(columns: Sequence[Column]) -> list[_Panel]:
    """Return columns, those of one group together, in portions that a page is wide enough for."""
    panels: list[_Panel] = [[]]
    for _, group in itertools.groupby(range(len(columns)), key=lambda n: columns[n].group or n):
        numbers = list(group)
        if panels[-1] and len(panels[-1]) + len(numbers) > _MOST_COLUMNS:
            panels.append([])
        panels[-1] += numbers
    return panels


def _alignment(table: Table, column: int) -> str:
    if table.columns[column].numeric:
        return "r"
    longest = max((len(row.cells[column].text) for row in table.rows), default=0)
    return _WRAPPED if longest > _LONGEST_WORDS else "l"


def _head(columns: list[Column]) -> list[str]:
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


def _body(table: Table, panel: _Panel) -> list[str]:
    """Return the rows, each with its small print below it; a rule stands before the published ones."""
    lines = []
    # A difference names its baseline where the caption has several.
    in_full = len({cell.against for row in table.rows for cell in row.cells if cell.delta}) > 1
    for before, row in zip((None, *table.rows), table.rows, strict=False):
        if before and before.kind != row.kind:
            lines.append("\\midrule")
        lines += _row(row, [row.cells[column] for column in panel], in_full=in_full)
    return lines


def _row(row: Row, cells: list[Cell], *, in_full: bool) -> list[str]:
    label = escaped(row.label) + ("~$\\dagger$" if row.kind == "published" else "")
    lines = [f"{label} & {' & '.join(_cell(cell, in_full=in_full) for cell in cells)} "]
    small_print = [_packed(cell.details) for cell in cells]
    for details in itertools.zip_longest(*small_print, fillvalue=""):
        small = [f"{{\\scriptsize {escaped(detail)}}}" if detail else "" for detail in details]
        lines.append(f" & {' & '.join(small)} ")
    # No page ends between a number and its small print.
    return [f"{line}\\\\*" for line in lines[:-1]] + [f"{lines[-1]}\\\\"]


def _packed(details: tuple[str, ...]) -> list[str]:
    """Return small print in lines that do not widen a column."""
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


def _notes(table: Table) -> list[str]:
    """Return footnotes and stand-ins as small paragraphs."""
    notes = [f"\\textsuperscript{{{mark}}}~{escaped(text)}" for mark, text in table.footnotes]
    notes += [
        f"{escaped(name)} stands in for {escaped(public)}: no benchmark numbers."
        for name, public in table.stands_for
    ]
    if not notes:
        return []
    return ["{\\scriptsize\\raggedright", *(f"{note}\\par" for note in notes), "}"]


def escaped(text: str) -> str:
    """Escape a text without its control characters; a sign without LaTeX becomes its code point."""
    text = unicodedata.normalize("NFC", printable(text))
    # Two hyphens are no dash, and a line may break within an address.
    parts = re.split(r"(-(?=-)|(?<=[A-Za-z])/(?=[A-Za-z]))", text)
    return "".join(_BETWEEN.get(part) or "".join(map(_sign, part)) for part in parts)


@functools.cache
def _sign(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isascii():
        return character
    greek = unicodedata.name(character, "").removeprefix("GREEK SMALL LETTER ").lower()
    if greek in _GREEK:
        return f"$\\{greek}$"
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS:
        return f"{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"\\texttt{{U+{ord(character):04X}}}"
