"""What the page's templates are given: tables as HTML, pictures as text, evidence as JSON."""

import base64
import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from micl_bench.records.published import Reference
from micl_bench.report.figures.all_figures import Gallery, Picture
from micl_bench.report.frame.faults import Faults
from micl_bench.report.frame.inventory import Inventory
from micl_bench.report.tables.model import Table
from micl_bench.report.tables.overview import (
    damaged_table,
    faulty_table,
    missing_table,
    overview_table,
    sentences,
)
from micl_bench.report.write.cards import card_data
from micl_bench.report.write.markup import embedded_json, security_policy, table_html

_ROW_NAMES = {"missing": "run", "damaged": "file", "damaged-beside": "file"}
_TALL = 24
"""Rows from which on a table is scrolled by itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """All that a report says, before it is written in any form."""

    title: str
    inventory: Inventory
    faults: Faults
    tables: list[Table]
    gallery: Gallery
    references: list[Reference]


def page_context(content: Content, *, style: str, script: str) -> dict[str, Any]:
    """What both templates show.

    Args:
        style: the style sheet, which the page holds as it is.
        script: the page's script, likewise.
    """
    inventory = content.inventory
    overview = [
        table
        for table in (
            overview_table(inventory),
            missing_table(inventory),
            damaged_table(inventory),
            faulty_table(content.faults),
        )
        if table.rows
    ]
    named = _named_in(content.tables)
    published = [_published(each) for each in content.references if each.id in named]
    identities = [result.id for _, result in inventory.records]
    identities += [each["id"] for each in published]
    places = {identity: place for place, identity in enumerate(identities)}
    tables = [_shown(table, places, is_file=True) for table in content.tables]
    cards = embedded_json(card_data(inventory, published))
    return {
        "title": content.title,
        "policy": security_policy(style=style, script=script),
        "style": Markup(style),
        "script": Markup(script),
        "sentences": sentences(inventory, content.faults),
        "stand_ins": inventory.stand_ins,
        "overview": [_shown(table, places) for table in overview],
        "findings": [
            (table.name, table.title, table.verdict) for table in content.tables if table.verdict
        ],
        "tables": [shown for shown in tables if not shown["is_published"]],
        "published": [shown for shown in tables if shown["is_published"]],
        "pictures": [_embedded(picture) for picture in content.gallery.pictures],
        "left_out": content.gallery.left_out,
        "cards": cards,
    }


def _named_in(tables: list[Table]) -> set[str]:
    """Ids of everything that a cell comes from."""
    return {
        identity
        for table in tables
        for row in table.rows
        for cell in row.cells
        for identity in cell.records
    }


def _published(reference: Reference) -> dict[str, Any]:
    fields = {name.replace("_", " "): value for name, value in vars(reference).items()}
    return {name: value for name, value in fields.items() if value not in ("", None, {})}


def _shown(table: Table, places: Mapping[str, int], *, is_file: bool = False) -> dict[str, Any]:
    return {
        "model": table,
        "name": table.name,
        "title": table.title,
        "caption": table.caption,
        "stands_for": table.stands_for if is_file else (),
        "footnotes": table.footnotes,
        "legend": _legend(table),
        "num_rows": len(table.rows),
        "is_published": all(row.kind == "published" for row in table.rows),
        "is_tall": len(table.rows) >= _TALL,
        "files": [f"{table.name}.{kind}" for kind in ("csv", "md", "tex")] if is_file else [],
        "html": table_html(table, places, label=_ROW_NAMES.get(table.name, "method")),
    }


def _legend(table: Table) -> str:
    """What the signs in a table mean, of those that it has."""
    cells = [cell for row in table.rows for cell in row.cells]
    words = {
        "Bold: the best of its protocol.": any(cell.best for cell in cells),
        "≈: no difference from that best is shown.": any(cell.tied for cell in cells),
        "Grey and slanted: published, not measured here.": any(
            cell.kind == "published" for cell in cells
        ),
    }
    return " ".join(sentence for sentence, is_needed in words.items() if is_needed)


def _embedded(picture: Picture) -> dict[str, Any]:
    width, height = struct.unpack(">II", picture.png[16:24])
    return {
        "name": picture.name,
        "title": picture.title,
        "caption": picture.caption,
        "alt": f"{picture.title}, described below",
        "table": picture.table,
        "base64": base64.b64encode(picture.png).decode(),
        "width": width,
        "height": height,
    }
