"""Everything behind one number: a record with all it names, checked again, or a published row."""

import dataclasses
import itertools
import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from micl_bench.records.declared import PERCENTAGES
from micl_bench.records.published import Reference, measures
from micl_bench.records.result import Record
from micl_bench.report.compare.against_published import Verdict, verdicts
from micl_bench.report.compare.artefact_files import evidence_of, fault_of
from micl_bench.report.frame.long import long_frame
from micl_bench.report.frame.selection import select
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.log import clock, printable
from micl_bench.runtime.terminal import columns_text
from micl_bench.runtime.values import without_nan

_DIGEST = 10
_MOST_LINES = 120
"""The largest number of lines of one section: a stranger's recipe could be as long as a book."""
_LONGEST = 1000
"""The largest length of one value."""
Pairs = Iterable[tuple[str, str]]
Found = TypeVar("Found", Record, Reference)


def find(name: str, among: Iterable[Found], kind: str) -> Found:
    """Return the one with an id, a beginning of its id, or of the id's last part, the digest.

    Args:
        among: records, or rows of the ledger.
        kind: a word for them in messages.

    Raises:
        InputError: there is none, or there are several.
    """
    known = {one.id: one for one in among}
    if name in known:
        return known[name]
    fitting = [i for i in known if i.startswith(name) or i[-_DIGEST:].startswith(name)]
    if not fitting:
        raise InputError(f"no {kind} has the id {name!r}, or one that begins so")
    if len(fitting) > 1:
        shown = ", ".join(sorted(fitting)[:5])
        raise InputError(
            f"{len(fitting)} {kind}s have an id that begins with {name!r} ({shown}); give more of it"
        )
    return known[fitting[0]]


def explain(
    record: Record, records: Iterable[Record], references: Iterable[Reference]
) -> dict[str, Any]:
    """Collect everything behind a record, as values that JSON can hold; NaN is None.

    Args:
        records: the records of its store: one may supersede it, others are runs of the same number.
        references: the published numbers.
    """
    remade, problems = _remade(record)
    unique = {one.id: one for one in [*records, record]}
    selection = select(sorted(unique.values(), key=lambda one: (one.start, one.id)))
    newer = selection.replaced_by.get(record.id)
    found = dataclasses.asdict(record)
    for name in ("digests", "details", "about", "path"):
        del found[name]
    found |= {
        "kind": "measured",
        "id": record.id,
        "record": str(record.path),
        "metrics": [
            {"name": name, "header": number.header, "from_evidence": remade.get(name)}
            | dataclasses.asdict(number)
            for name, number in record.metrics.items()
        ],
        "problems": problems,
        "recipe_digest_fits": digest_json(record.recipe) == record.recipe_digest,
        "artifacts": [_artifact(record, name) for name in record.artifacts],
        "superseded_by": newer.id if newer else None,
        "supersedes": [old for old, new in selection.replaced_by.items() if new.id == record.id],
        "published": [
            _verdict(one)
            for one in verdicts(long_frame([record]) if newer else selection.frame, references)
            if record.id in {run.id for run in one.entry.runs}
        ],
    }
    plain: dict[str, Any] = without_nan(found)
    return plain


def explain_published(reference: Reference) -> dict[str, Any]:
    """Collect a published number, its source, and the records' number that it is held against."""
    task, data, metric = measures(reference)
    return {
        **dataclasses.asdict(reference),
        "kind": "published",
        "stands_for": list(reference.bounds),
        "measures": {"task": task, "data": data, "metric": metric},
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.word,
        "condition": verdict.condition,
        "summary": verdict.describe(),
        "value": verdict.entry.mean,
        "interval": verdict.interval,
        "records": [run.id for run in verdict.entry.runs],
        "published": dataclasses.asdict(verdict.reference),
    }


def _remade(record: Record) -> tuple[dict[str, float], list[str]]:
    """Compute the metrics again from the evidence of each image; also returns what is wrong with it."""
    try:
        kept = evidence_of(record)
        found = kept.metrics() if kept else {}
        return {name: value for name, value in found.items() if name in record.metrics}, []
    except InputError as error:
        return {}, [str(error)]


def _artifact(record: Record, name: str) -> dict[str, Any]:
    """Check that a file that a record names is there, and is the one that it was written with."""
    problem, digest = fault_of(record, name), record.digests.get(name)
    state = "there, SHA-256 as recorded" if digest else "there; the record has no digest of it"
    if problem is None:
        state = "missing"
    elif problem:
        state = f"damaged: {problem}"
    file = record.path.parent / record.artifacts[name]
    is_read = problem is not None and file.is_file()
    return {
        "name": name,
        "path": record.artifacts[name],
        "digest": digest,
        "state": state,
        "bytes": file.stat().st_size if is_read else None,
    }


def as_text(found: dict[str, Any]) -> str:
    """Return what `explain` or `explain_published` found as lines for a terminal."""
    lines = _published(found) if found["kind"] == "published" else _measured(found)
    return "\n".join(map(printable, lines))


def _published(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['task']}: {found['method']}, {found['arch']} (published)"
    low, high = found["stands_for"]
    facts = {
        name: "not stated in the text read" if found[name] is None else found[name]
        for name in (
            "id",
            "protocol",
            "resolution",
            "pretrain_data",
            "pretrain_epochs",
            "source",
            "source_detail",
        )
    }
    facts["stands_for"] = f"from {low:.15g} to {high:.15g}, by its digits"
    number = f"{found['text'] or found['value']} {found['unit']}"
    yield from _section("Number", _flat({found["metric"]: number, **facts}))
    yield from _section("Settings that the protocol's words state", _flat(found["settings"]))
    if not found["settings"]:
        yield "  none that a record holds"
    title = "Compared with records of the same method, architecture and protocol"
    yield from _section(title, _flat(found["measures"]))


def _measured(found: dict[str, Any]) -> Iterator[str]:
    checkpoint = dict(found["checkpoint"])
    origin, assumed = checkpoint.pop("origin"), checkpoint.pop("guesses")
    if assumed:
        words = f"{', '.join(assumed)}: neither the file nor the user states it"
        checkpoint["assumed"] = words
    yield f"{found['task']} on {found['data']['name']}: {found['method']}, {found['arch']}"
    yield found["protocol"]
    yield from _section("Record", _flat({"id": found["id"], "file": found["record"]}))
    if newer := found["superseded_by"]:
        yield f"  A newer record of the same measurement takes its place in reports: {newer}"
    yield from _section("Metrics", map(_metric, found["metrics"]))
    yield from (f"  PROBLEM: {line}" for line in found["problems"])
    if not found["problems"]:
        remade = sum(one["from_evidence"] is not None for one in found["metrics"])
        words = "metrics computed again from the evidence of each image: they are the record's."
        yield f"  Evidence: {f'{remade} {words}' if remade else 'none is kept of each image.'}"
    yield from _section("Published beside it", _beside(found["published"]))
    if not found["published"]:
        yield "  No published number is of this method, architecture, task, metric and protocol."
    yield from _section("Measured on", _flat(found["data"]))
    yield from _section("Trained on", _flat(found["train"] or {}))
    yield from _section("Checkpoint", _flat(checkpoint))
    yield from _section("Made by", itertools.starmap(_stage, enumerate(origin, 1)))
    if not origin:
        yield "  The checkpoint's file does not say which trainings it went through."
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
    """Yield dotted names and values, without those that are empty."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{start}{name}.")
        elif value not in ("", None):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{start}{name}", text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _metric(one: dict[str, Any]) -> tuple[str, str]:
    def number(name: str) -> str:
        value, is_percentage = one[name], one["unit"] in PERCENTAGES
        return "–" if value is None else f"{value:.2f}" if is_percentage else f"{value:.6g}"

    text = number("value")
    text += f"  95 % interval {number('low')} to {number('high')}" * (one["low"] is not None)
    text += f": {one['undefined']}" if one["undefined"] else ""
    is_remade = one["from_evidence"] is not None
    return one["header"], text + f"  (from the images: {number('from_evidence')})" * is_remade


def _beside(published: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for one in published:
        row = one["published"]
        yield row["id"], one["summary"]
        yield "", f"{row['method']}, {row['arch']}: {row['protocol']}"
        yield "", f"source: {row['source']} ({row['source_detail']})"


def _stage(number: int, one: dict[str, Any]) -> tuple[str, str]:
    images = f" on {one['data']} (digest {one['data_digest'][:12]})" if one["data"] else ""
    words = f"{one['epochs']:g} epochs{images}, fingerprint {one['fingerprint'][:12]}"
    if one["stated"]:
        words = "stated by the user, the file does not say it"
    return f"{number}. {one['task']}", f"{one['method']}, seed {one['seed']}: {words}"


def _file(one: dict[str, Any]) -> tuple[str, str]:
    size = f", {one['bytes']:,} bytes" if one["bytes"] is not None else ""
    return one["name"], f"{one['path']}: {one['state']}{size}"
