"""HTML for the page: tables, embedded data, and the policy that lets nothing else run.

Text of records is hostile: it loses control characters and is escaped, here and nowhere else.
"""

import base64
import functools
import hashlib
import math
from collections.abc import Mapping

from markupsafe import Markup

from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.runtime.log import printable

_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"},
)
_IN_SCRIPT = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


# Most cells of a large table say what another one says.
@functools.lru_cache(maxsize=1 << 14)
def escaped(text: str) -> str:
    """Text as HTML shows it, in an element or a quoted attribute."""
    return (text if text.isprintable() else printable(text)).translate(_ESCAPES)


def embedded_json(text: str) -> Markup:
    """JSON that no script element's end or comment can be hidden in; it stays the same JSON."""
    # Of megabytes, `translate` would take a hundred times as long.
    for character, escape in _IN_SCRIPT.items():
        text = text.replace(character, escape)
    return Markup(text)


def security_policy(*, style: str, script: str) -> str:
    """Only these very blocks style the page and run; it loads nothing and sends nothing."""
    return (
        "default-src 'none'; img-src data:; "
        f"style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )


def _hash(block: str) -> str:
    digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def table_html(table: Table, places: Mapping[str, int], *, label: str) -> Markup:
    """The table element, without what surrounds it.

    Args:
        places: by id, where a record or reference lies in the page's card data.
        label: header of the rows' names.
    """
    lines = [f'<table data-table="{escaped(table.name)}">', *_head(table.columns, label), "<tbody>"]
    lines += [_row(row, table.columns, places) for row in table.rows]
    return Markup("\n".join([*lines, "</tbody>", "</table>"]))


def _head(columns: tuple[Column, ...], label: str) -> list[str]:
    grouped = any(column.group for column in columns)
    first = f'<th scope="col"{" rowspan=2" * grouped} data-sort="words">{escaped(label)}</th>'
    lines = ["<thead>"]
    if grouped:
        lines.append(f"<tr>{first}{''.join(_groups(columns))}</tr>")
        first = ""
    headers = [
        _header(column, starts) for column, starts in zip(columns, _starts(columns), strict=True)
    ]
    return [*lines, f"<tr>{first}{''.join(headers)}</tr>", "</thead>"]


def _header(column: Column, starts: bool) -> str:
    order = {True: "high", False: "low", None: "high"}[column.higher_is_better]
    kind = order if column.numeric else "words"
    classes = _classes(n=column.numeric, first=starts)
    return f'<th scope="col"{classes} data-sort="{kind}">{escaped(column.header)}</th>'


def _starts(columns: tuple[Column, ...]) -> list[bool]:
    """Whether a column is the first of its group."""
    before = ["", *(column.group for column in columns)]
    return [column.group != last for column, last in zip(columns, before, strict=False)]


def _groups(columns: tuple[Column, ...]) -> list[str]:
    spans: list[tuple[str, int]] = []
    for column, starts in zip(columns, _starts(columns), strict=True):
        if spans and not starts:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return [
        f'<th scope="colgroup" class="group" colspan="{span}">{escaped(group)}</th>'
        if group
        else f'<td colspan="{span}"></td>'
        for group, span in spans
    ]


def _row(row: Row, columns: tuple[Column, ...], places: Mapping[str, int]) -> str:
    published = row.kind == "published"
    source = f"<small>{escaped(row.source)}</small>" if row.source else ""
    tag = ' <span class="tag">published</span>' if published else ""
    cells = [
        _cell(cell, column, starts, places)
        for cell, column, starts in zip(row.cells, columns, _starts(columns), strict=True)
    ]
    classes = _classes(published=published)
    return (
        f'<tr{classes}><th scope="row">{escaped(row.label)}{tag}{source}</th>{"".join(cells)}</tr>'
    )


def _cell(cell: Cell, column: Column, starts: bool, places: Mapping[str, int]) -> str:
    classes = _cell_classes(column.numeric, starts, cell.best, cell.kind)
    value = (
        "" if cell.value is None or not math.isfinite(cell.value) else f' data-v="{cell.value:.8g}"'
    )
    text = _linked(cell, escaped(cell.text), places)
    text += '<span class="sr"> (best)</span>' if cell.best else ""
    text += '<span class="tied" title="no difference from the best is shown">≈</span>' * cell.tied
    text += f"<sup>{escaped(cell.mark)}</sup>" if cell.mark else ""
    text += f'<small class="delta">{escaped(cell.difference)}</small>' if cell.delta else ""
    text += "".join(f"<small>{escaped(detail)}</small>" for detail in cell.details)
    return f"<td{classes}{value}>{text}</td>"


def _linked(cell: Cell, text: str, places: Mapping[str, int]) -> str:
    known = [(identity, places[identity]) for identity in cell.records if identity in places]
    if not known:
        return text
    several = f' data-cards="{" ".join(str(place) for _, place in known)}"' * (len(known) > 1)
    return f'<a href="#record-{escaped(known[0][0])}" aria-haspopup="dialog"{several}>{text}</a>'


# Thousands of cells are of few kinds.
@functools.cache
def _cell_classes(numeric: bool, starts: bool, best: bool, kind: str) -> str:
    is_none, published = kind == "missing", kind == "published"
    return _classes(n=numeric, first=starts, best=best, none=is_none, published=published)


def _classes(**wanted: bool) -> str:
    names = " ".join(name for name, is_so in wanted.items() if is_so)
    return f' class="{names}"' if names else ""
