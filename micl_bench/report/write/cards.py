"""The evidence of every number, for the page's cards: compact, each repeated part stored once.

A pool holds every list, object and long text once; a part is a plain value, or `[index]` of a pool
entry. A list is `[0, part, ...]`, an object `[index of its names, part, ...]` with index > 0, names are
`[0, name, ...]` and always plain texts. Records that share a recipe, or a part of one, share its entry.
"""

import dataclasses
import json
import marshal
import math
from collections.abc import Iterable
from typing import Any

from micl_bench.records.result import CheckpointInfo, Result
from micl_bench.report.frame.inventory import Inventory
from micl_bench.report.frame.metrics import (
    format_interval,
    format_value,
    headline_metrics,
    interval,
    metric_header,
    task_title,
)
from micl_bench.runtime.log import printable

_ABOUT_WEIGHTS = [f.name for f in dataclasses.fields(CheckpointInfo) if f.name != "origin"]
_SHORT = 10
_EXACT = 2**53
"""JavaScript's numbers hold whole numbers up to this one."""

Part = str
"""JSON of a plain value, or of a place in the pool."""


class Unlike(list[Any]):
    """A list that hardly any other record has: looking it up would be for nothing."""


class Pool:
    """Values, each stored once, as JSON."""

    def __init__(self) -> None:
        # Entry 0 keeps the index of an object's names above 0.
        self._entries: list[str] = ['""']
        self._places: dict[str, Part] = {}
        self._known: dict[bytes, Part] = {}
        self._texts: dict[str, Part] = {}

    def add(self, value: Any) -> Part:
        """A value of JSON's types; texts lose their control characters."""
        if isinstance(value, str):
            if value not in self._texts:
                self._texts[value] = self._text(value)
            return self._texts[value]
        if not isinstance(value, (dict, list, tuple)):
            return _plain(value)
        if type(value) is Unlike:
            return self.add_once(value)
        # Recipes, and parts of them, come again and again: looking one up is faster than a walk.
        whole = _key(value)
        if whole not in self._known:
            self._known[whole] = self.add_once(value)
        return self._known[whole]

    def add_once(self, value: dict[str, Any] | list[Any] | tuple[Any, ...]) -> Part:
        """One that is unlike all others, though its values may come again."""
        if isinstance(value, dict):
            names = [_dumped(_clean(str(name))) for name in value]
            kind = self._place(f"[{','.join(['0', *names])}]")[1:-1]
            return self._place(f"[{','.join([kind, *map(self.add, value.values())])}]")
        return self._place(f"[{','.join(['0', *map(self.add, value)])}]")

    def as_json(self) -> str:
        """All entries, in order."""
        return f"[{','.join(self._entries)}]"

    def _place(self, entry: str) -> Part:
        if entry not in self._places:
            self._places[entry] = f"[{len(self._entries)}]"
            self._entries.append(entry)
        return self._places[entry]

    def _text(self, value: str) -> Part:
        text = _clean(value)
        return _dumped(text) if len(text) <= _SHORT else self._place(_dumped(text))


def card_data(inventory: Inventory, published: Iterable[dict[str, Any]] = ()) -> str:
    """JSON of a pool, with a part for each record, in the inventory's order, and published number."""
    pool = Pool()
    records = ",".join(pool.add_once(_evidence(inventory, r)) for _, r in inventory.records)
    references = ",".join(map(pool.add_once, published))
    return f'{{"pool":{pool.as_json()},"records":[{records}],"published":[{references}]}}'


def _evidence(inventory: Inventory, result: Result) -> dict[str, Any]:
    newer = inventory.selection.replaced_by.get(result.id)
    headline = headline_of(result)
    return {
        "id": result.id,
        "file": inventory.files[result.id],
        "status": inventory.status(result.id),
        "superseded by": newer.id if newer else "",
        "task": result.task,
        "task title": task_title(result.task),
        "protocol": result.protocol,
        "method": inventory.selection.method_of(result),
        "architecture": result.arch,
        "headline": headline,
        "metrics": Unlike(_measured(result, metric) for metric in result.metrics),
        "data": vars(result.data),
        "training images": vars(result.train) if result.train else None,
        "checkpoint": _weights(result.checkpoint),
        "origin": [vars(stage) for stage in result.checkpoint.origin],
        "settings": result.settings,
        "fingerprint": result.fingerprint,
        "recipe": result.recipe,
        "recipe digest": result.recipe_digest,
        "seed": result.seed,
        "command": result.command,
        "code": result.code_version,
        "environment": result.environment,
        "start": result.start,
        "seconds": result.seconds,
        "device-hours": result.device_hours,
        "artefacts": Unlike(
            Unlike((name, path, result.digests.get(name, "")))
            for name, path in result.artifacts.items()
        ),
    }


def _measured(result: Result, metric: str) -> Unlike:
    """Header, number, interval, number and ends to sort by."""
    value, bounds = result.metrics[metric], interval(result, metric)
    text = format_interval(metric, bounds) if bounds else result.undefined.get(metric, "")
    words = metric_header(metric), format_value(metric, value), text
    return Unlike((*words, shortened(value), metric))


def headline_of(result: Result) -> str:
    """The metric that stands for a record: the one that people quote, or else its first."""
    return (headline_metrics(list(result.metrics)) or list(result.metrics))[0]


def shortened(value: float) -> float | None:
    """Eight digits, which no metric's precision exceeds; None where there is no number."""
    return float(f"{value:.8g}") if math.isfinite(value) else None


def _weights(checkpoint: CheckpointInfo) -> dict[str, Any]:
    """What is known, without the trainings behind them."""
    words = {name: getattr(checkpoint, name) for name in _ABOUT_WEIGHTS}
    return {"assumed" if name == "guesses" else name: word for name, word in words.items() if word}


def _plain(value: Any) -> Part:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'"{value}"'
    if isinstance(value, bool) or value is None:
        return _dumped(value)
    return str(value) if abs(value) <= _EXACT else f'"{value}"'


def _clean(text: str) -> str:
    return text if text.isprintable() else printable(text)


# Made once: `json.dumps` would make an encoder for each call.
_dumped = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _key(value: Any) -> bytes:
    """Equal only for equal values of equal types; version 2 writes no references between objects."""
    return marshal.dumps(value, 2)
