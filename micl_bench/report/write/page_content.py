"""What the templates of the page are given: tables with their legends, pictures, evidence."""

import dataclasses
from typing import Any

from micl_bench.records.published import Reference
from micl_bench.report.figures.all_figures import Gallery
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

_LABELS = {"missing": "run", "damaged": "file", "damaged-beside": "file"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """All that a report says, before it is written in any form."""

    title: str
    inventory: Inventory
    faults: Faults
    tables: list[Table]
    gallery: Gallery
    references: list[Reference]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownTable:
    """A table with what the page says around it."""

    table: Table
    label: str
    """Header of the names of rows."""
    is_file: bool
    """Whether it lies beside the page as a file too."""

    @property
    def is_published(self) -> bool:
        """Whether none of its numbers was measured."""
        return all(row.kind == "published" for row in self.table.rows)

    @property
    def files(self) -> list[str]:
        """The files beside the page."""
        return [f"{self.table.name}.{kind}" for kind in ("csv", "md", "tex")] * self.is_file

    @property
    def stands_for(self) -> tuple[tuple[str, str], ...]:
        """Embedded sets and their public ones; a table without files says it elsewhere."""
        return self.table.stands_for if self.is_file else ()

    @property
    def legend(self) -> str:
        """What the signs in the table mean, of those that it has."""
        cells = [cell for row in self.table.rows for cell in row.cells]
        words = {
            "Bold: the best of its protocol.": any(cell.best for cell in cells),
            "≈: no difference from that best is shown.": any(cell.tied for cell in cells),
            "Grey and slanted: published, not measured here.": any(
                cell.kind == "published" for cell in cells
            ),
        }
        return " ".join(sentence for sentence, is_needed in words.items() if is_needed)


def page_context(content: Content) -> dict[str, Any]:
    """What both templates show."""
    inventory = content.inventory
    overview = (
        overview_table(inventory),
        missing_table(inventory),
        damaged_table(inventory),
        faulty_table(content.faults),
    )
    named = {
        identity
        for table in content.tables
        for row in table.rows
        for cell in row.cells
        for identity in cell.records
    }
    tables = [ShownTable(table=each, label="method", is_file=True) for each in content.tables]
    return {
        "title": content.title,
        "sentences": sentences(inventory, content.faults),
        "stand_ins": inventory.stand_ins,
        "overview": [
            ShownTable(table=table, label=_LABELS.get(table.name, "method"), is_file=False)
            for table in overview
            if table.rows
        ],
        "findings": [table for table in content.tables if table.verdict],
        "tables": [shown for shown in tables if not shown.is_published],
        "published": [shown for shown in tables if shown.is_published],
        "pictures": content.gallery.pictures,
        "left_out": content.gallery.left_out,
        "cards": card_data(inventory, [one for one in content.references if one.id in named]),
    }
