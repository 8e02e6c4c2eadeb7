"""The report: its content, and the folder that holds it.

The templates escape all text; text of records loses its control characters before. The page's policy
lets only its own style and script run, and it loads nothing.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from micl_bench.records.published import Reference, read_references
from micl_bench.report.audit.faults import Faults, find_faults
from micl_bench.report.figures.all_figures import draw_all
from micl_bench.report.frame.inventory import Inventory, describe, take_inventory
from micl_bench.report.tables.build import build_tables
from micl_bench.report.tables.model import Cell, Table
from micl_bench.report.tables.overview import (
    damaged_table,
    faulty_table,
    gone_words,
    missing_table,
    overview_table,
    sentences,
)
from micl_bench.report.write.cards import card_data
from micl_bench.report.write.export import write_tables
from micl_bench.report.write.markdown import escaped, to_markdown
from micl_bench.runtime.folders import atomic_folder
from micl_bench.runtime.log import printable, say

_TEMPLATES = Path(__file__).parent / "templates"
_LEGEND: dict[str, Callable[[Cell], bool]] = {
    "Bold: the best of its protocol.": lambda cell: cell.best,
    "≈: no difference from that best is shown.": lambda cell: cell.tied,
    "Grey and slanted: published, not measured here.": lambda cell: cell.kind == "published",
}
"""Sentences on the signs of a table, each with the test for cells that have the sign."""


def build(results: Path, out: Path, *, title: str) -> Path:
    """Build the report, as `micl_bench.report.build_report` documents it."""
    inventory = take_inventory(results)
    faults = find_faults(results, inventory.selection)
    for line in describe(inventory):
        say(line)
    for name, reason in faults.damaged:
        say(printable(f"left out: {name}: {reason}"))
    if faults.gone:
        say(printable(gone_words(faults)))
    references = read_references()
    tables = build_tables(inventory.selection, references)
    pictures, left_out = draw_all(inventory.selection, references)
    context = {
        **_context(inventory, faults, tables, references),
        "title": title,
        "pictures": pictures,
        "left_out": left_out,
        # They are ours and need no escaping.
        "style": Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "script": Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8")),
    }

    def write(folder: Path) -> None:
        write_tables(folder / "tables", tables, inventory.selection)
        (folder / "figures").mkdir()
        for picture in pictures:
            (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
            (folder / "figures" / f"{picture.name}.pdf").write_bytes(picture.pdf)
        templates = _templates()
        for name in ("report.md", "report.html"):
            page = templates.get_template(f"{name}.jinja").render(context)
            (folder / name).write_text(page, encoding="utf-8")

    atomic_folder(out, write)
    return out / "report.html"


def _context(
    inventory: Inventory, faults: Faults, tables: list[Table], references: Sequence[Reference]
) -> dict[str, Any]:
    """Return the values of both templates, beside figures."""
    overview = (
        overview_table(inventory),
        missing_table(inventory),
        damaged_table(inventory),
        faulty_table(faults),
    )
    published = [t for t in tables if all(row.kind == "published" for row in t.rows)]
    named = {one for t in tables for row in t.rows for cell in row.cells for one in cell.records}
    return {
        "sentences": sentences(inventory, faults),
        "stand_ins": inventory.stand_ins,
        "overview": [table for table in overview if table.rows],
        "findings": [table for table in tables if table.verdict],
        "tables": [table for table in tables if table not in published],
        "published": published,
        "cards": card_data(inventory, [one for one in references if one.id in named]),
    }


def _legend(table: Table) -> str:
    """Return sentences on the signs that a table has."""
    cells = [cell for row in table.rows for cell in row.cells]
    return " ".join(sentence for sentence, has_it in _LEGEND.items() if any(map(has_it, cells)))


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",)),
        undefined=jinja2.StrictUndefined,
        # Markup is ours and stays as it is; any other text may be a record's.
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    templates.filters["base64"] = lambda content: base64.b64encode(content).decode()
    templates.filters["sha256"] = lambda block: base64.b64encode(
        hashlib.sha256(block.encode()).digest()
    ).decode()
    templates.filters["legend"] = _legend
    templates.filters["md"] = escaped
    # Its titles are headings of the first order; here they lie below the page's own.
    templates.filters["table"] = lambda table: Markup("#" + to_markdown(table))
    return templates
