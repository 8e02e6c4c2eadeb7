"""The evidence of one number as text for a terminal."""

import itertools
import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from micl_bench.records.declared import PERCENTAGES
from micl_bench.runtime.log import clock, printable
from micl_bench.runtime.terminal import columns_text

_MOST_LINES = 120
"""Of one section; a recipe of a stranger could be as long as a book."""
_LONGEST = 1000
"""Of one value."""
_UNKNOWN = "not stated in the text read"

Pairs = Iterable[tuple[str, str]]


def as_text(found: dict[str, Any]) -> str:
    """What `explain` or `explain_reference` gave, for people."""
    lines = _published(found) if found["kind"] == "published" else _measured(found)
    return "\n".join(map(printable, lines))


def _measured(found: dict[str, Any]) -> Iterator[str]:
    checkpoint = dict(found["checkpoint"])
    origin, assumed = checkpoint.pop("origin"), checkpoint.pop("guesses")
    if assumed:
        words = f"{', '.join(assumed)}: neither the file nor the user states it"
        checkpoint["assumed"] = words
    yield f"{found['task']} on {found['data']['name']}: {found['method']}, {found['arch']}"
    yield found["protocol"]
    yield from _section("Record", [("id", found["id"]), ("file", found["record"])])
    if newer := found["superseded_by"]:
        yield f"  A newer record of the same measurement takes its place in reports: {newer}"
    yield from _section("Metrics", _metrics(found["metrics"]))
    remade = sum(one["from_evidence"] is not None for one in found["metrics"])
    if found["problems"]:
        yield from (f"  PROBLEM: {line}" for line in found["problems"])
    elif remade:
        words = "metrics made again from what is kept of each image: they are the record's."
        yield f"  Evidence: {remade} {words}"
    else:
        yield "  Evidence: none is kept of each image."
    yield from _section("Published beside it", _beside(found["published"]))
    if not found["published"]:
        yield "  No published number is of this method, architecture, task, metric and protocol."
    yield from _section("Measured on", _flat(found["data"]))
    yield from _section("Trained on", _flat(found["train"] or {}))
    yield from _section("Checkpoint", _flat(checkpoint))
    yield from _section("Made by", itertools.starmap(_stage, enumerate(origin, 1)))
    if not origin:
        yield "  The checkpoint's file does not tell which trainings it went through."
    yield from _section("Settings that move the number", _flat(found["settings"]))
    yield f"  fingerprint {found['fingerprint']}"
    fits = "" if found["recipe_digest_fits"] else "  PROBLEM: not the digest of the recipe"
    yield from _section("Recipe", _flat(found["recipe"]))
    yield f"  digest {found['recipe_digest']}{fits}"
    took = f"{clock(found['seconds'])} ({found['device_hours']:.4g} device-hours)"
    run = {"seed": found["seed"], "code": found["code_version"], "began": found["start"]}
    yield from _section("Run", _flat({**run, "took": took}))
    yield from _section("Environment", _flat(found["environment"]))
    yield from _section("Files", map(_file, found["artifacts"]))
    yield from ("", "Made again by", f"  {found['command']}")
    again = shlex.join(["micl-bench", "reproduce", found["record"], "--out", "NEW_FOLDER"])
    yield f"or, with a verdict: {again}"


def _section(title: str, pairs: Pairs) -> Iterator[str]:
    rows = list(itertools.islice(pairs, _MOST_LINES + 1))
    yield from ("", title)
    yield from columns_text(rows[:_MOST_LINES], indent=2).splitlines()
    if len(rows) > _MOST_LINES:
        yield "  ... and more: --json has all"


def _flat(values: dict[str, Any], start: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values, without those that are empty."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{start}{name}.")
        elif value not in ("", None):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{start}{name}", text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _metrics(metrics: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for one in metrics:
        text = _number(one["unit"], one["value"])
        if one["low"] is not None:
            ends = (_number(one["unit"], one[end]) for end in ("low", "high"))
            text += f"  95 % interval {' to '.join(ends)}"
        if one["undefined"]:
            text += f": {one['undefined']}"
        if one["from_evidence"] is not None:
            text += f"  (from the images: {_number(one['unit'], one['from_evidence'])})"
        yield one["header"], text


def _number(unit: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if unit in PERCENTAGES else f"{value:.6g}"


def _beside(published: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for one in published:
        row = one["published"]
        yield row["id"], one["summary"]
        yield "", f"{row['method']}, {row['arch']}: {row['protocol']}"
        yield "", f"source: {row['source']} ({row['source_detail']})"


def _stage(number: int, one: dict[str, Any]) -> tuple[str, str]:
    if one["stated"]:
        words = "stated by the user, the file does not say it"
    else:
        images = f" on {one['data']} (digest {one['data_digest'][:12]})" if one["data"] else ""
        words = f"{one['epochs']:g} epochs{images}, fingerprint {one['fingerprint'][:12]}"
    return f"{number}. {one['task']}", f"{one['method']}, seed {one['seed']}: {words}"


def _file(one: dict[str, Any]) -> tuple[str, str]:
    size = f", {one['bytes']:,} bytes" if one["bytes"] is not None else ""
    return one["name"], f"{one['path']}: {one['state']}{size}"


def _published(found: dict[str, Any]) -> Iterator[str]:
    facts, (low, high) = dict(found), found["stands_for"]
    for name in ("kind", "task", "method", "arch", "metric", "text", "value", "unit"):
        del facts[name]
    settings, measured = facts.pop("settings"), facts.pop("measures")
    facts["stands_for"] = f"from {low:.15g} to {high:.15g}, by its digits"
    facts = {name: _UNKNOWN if value is None else value for name, value in facts.items()}
    yield f"{found['task']}: {found['method']}, {found['arch']} (published)"
    number = f"{found['text']} {found['unit']}"
    yield from _section("Number", _flat({found["metric"]: number, **facts}))
    yield from _section("What the protocol's words state, as records call it", _flat(settings))
    if not settings:
        yield "  nothing that a record holds"
    yield from _section(
        "Held against records of the same method, architecture and protocol", _flat(measured)
    )
