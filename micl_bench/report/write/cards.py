"""The evidence of every number, for the cards of the page, as values of JSON.

Thousands of records share few recipes, settings, environments and data sets: such a part is stored
once, in `parts`, and a record has its index there.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import Any

from micl_bench.records.declared import Number
from micl_bench.records.published import Reference
from micl_bench.records.result import Record
from micl_bench.records.weights import CheckpointInfo
from micl_bench.report.frame.inventory import Inventory
from micl_bench.runtime.log import printable

_EXACT = 2**53
"""JavaScript's numbers hold whole numbers up to this one."""
_PLAIN = (
    *("id", "task", "protocol", "arch", "headline", "fingerprint", "recipe_digest", "seed"),
    *("command", "code_version", "start", "seconds", "device_hours"),
)
"""Fields of a record that its card shows unchanged."""


def card_data(inventory: Inventory, published: Iterable[Reference] = ()) -> dict[str, Any]:
    """Return the evidence of each record and published number, in order, and their shared parts."""
    places: dict[str, int] = {}
    records = [
        plain(_own(inventory, result))
        | {
            name: places.setdefault(json.dumps(plain(part)), len(places))
            for name, part in _shared(result).items()
        }
        for result in inventory.records
    ]
    return {
        "parts": [json.loads(part) for part in places],
        "records": records,
        "published": [plain(_published(reference)) for reference in published],
    }


def plain(value: Any) -> Any:
    """Return a value that JSON and JavaScript can hold; texts lose their control characters."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(name)): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value) if isinstance(value, int) and abs(value) > _EXACT else value


def _own(inventory: Inventory, record: Record) -> dict[str, Any]:
    """Return the facts that hardly any other record has."""
    newer = inventory.selection.replaced_by.get(record.id)
    return {
        **{name.replace("_", " "): getattr(record, name) for name in _PLAIN},
        "file": inventory.files[record.id],
        "status": inventory.status(record.id),
        "superseded by": newer.id if newer else "",
        "task title": record.about.title,
        "method": inventory.selection.method_of(record),
        "metrics": [_measured(name, number) for name, number in record.metrics.items()],
        "artefacts": [
            (name, path, record.digests.get(name, "")) for name, path in record.artifacts.items()
        ],
    }


def _shared(result: Record) -> dict[str, Any]:
    """Return the facts that many records have in common."""
    return {
        "data": dataclasses.asdict(result.data),
        "training images": dataclasses.asdict(result.train) if result.train else None,
        "checkpoint": _weights(result.checkpoint),
        "origin": [dataclasses.asdict(stage) for stage in result.checkpoint.origin],
        "settings": result.settings,
        "recipe": result.recipe,
        "environment": result.environment,
    }


def _measured(name: str, number: Number) -> tuple[str, str, str, float | None, str]:
    """Return header, number, interval, number to sort by, name."""
    text = number.interval_text(number.interval) if number.interval else number.undefined
    exact = None if number.undefined else float(f"{number.value:.8g}")
    return number.header, str(number), text, exact, name


def _weights(checkpoint: CheckpointInfo) -> dict[str, Any]:
    """Return the known facts on weights, without the trainings behind them."""
    words = {f.name: getattr(checkpoint, f.name) for f in dataclasses.fields(checkpoint)}
    words |= {"assumed": words.pop("guesses"), "origin": ()}
    return {name: word for name, word in words.items() if word}


def _published(reference: Reference) -> dict[str, Any]:
    fields = {name.replace("_", " "): value for name, value in vars(reference).items()}
    return {name: value for name, value in fields.items() if value not in ("", None, {})}
