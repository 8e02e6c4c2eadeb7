"""Everything behind one number: a record with all it names, checked again, or a published row."""

import dataclasses
from typing import Any, TypeVar

from micl_bench.records.published import Reference, measures
from micl_bench.records.result import Record
from micl_bench.report.compare.against_published import Verdict, verdicts
from micl_bench.report.compare.artefact_files import evidence_of, fault_of
from micl_bench.report.frame.selection import select
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.values import without_nan

_DIGEST = 10
T = TypeVar("T")


def find_record(name: str, records: list[Record]) -> Record:
    """The record of an id, of a beginning of one, or of a beginning of an id's last part, the digest.

    Raises:
        InputError: none, or several.
    """
    known = {record.id: record for record in records}
    fitting = {i: run for i, run in known.items() if i[-_DIGEST:].startswith(name)}
    return _the_one(name, known, "record", fitting)


def find_reference(name: str, references: list[Reference]) -> Reference:
    """The published number of an id, or of a beginning of one.

    Raises:
        InputError: none, or several.
    """
    return _the_one(name, {one.id: one for one in references}, "published number", {})


def _the_one(name: str, known: dict[str, T], kind: str, also: dict[str, T]) -> T:
    if name in known:
        return known[name]
    fitting = {i: one for i, one in known.items() if i.startswith(name)} | also
    if not fitting:
        raise InputError(f"no {kind} has the id {name!r}, or one that begins so")
    if len(fitting) > 1:
        shown = ", ".join(sorted(fitting)[:5])
        raise InputError(
            f"{len(fitting)} {kind}s have an id that begins with {name!r} ({shown}); give more of it"
        )
    return next(iter(fitting.values()))


def explain(result: Record, records: list[Record], references: list[Reference]) -> dict[str, Any]:
    """The evidence of a record, as values that JSON can hold; what is not a number is None.

    Args:
        records: of its store: what supersedes it, and the other seeds of its number.
    """
    remade, problem = _remade(result)
    unique = {one.id: one for one in [*records, result]}
    selection = select(sorted(unique.values(), key=lambda one: (one.start, one.id)))
    newer = selection.replaced_by.get(result.id)
    whole = dataclasses.asdict(result)
    del whole["digests"], whole["details"], whole["about"], whole["path"]
    found = whole | {
        "kind": "measured",
        "id": result.id,
        "record": str(result.path),
        "metrics": [
            {"name": name, "header": number.header, "from_evidence": remade.get(name)}
            | dataclasses.asdict(number)
            for name, number in result.metrics.items()
        ],
        "problems": [problem] if problem else [],
        "recipe_digest_fits": digest_json(result.recipe) == result.recipe_digest,
        "artifacts": [_artifact(result, name) for name in result.artifacts],
        "superseded_by": newer.id if newer else None,
        "supersedes": [old for old, new in selection.replaced_by.items() if new.id == result.id],
        "published": [
            _verdict(one)
            for one in verdicts([result] if newer else selection.current, references)
            if result.id in {run.id for run in one.entry.runs}
        ],
    }
    plain: dict[str, Any] = without_nan(found)
    return plain


def explain_reference(reference: Reference) -> dict[str, Any]:
    """A published row: what it says, where it was read, and which of our numbers it is one of."""
    task, data, metric = measures(reference)
    return {
        "kind": "published",
        **dataclasses.asdict(reference),
        "stands_for": list(reference.bounds),
        "measures": {"task": task, "data": data, "metric": metric},
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as values that JSON can hold, its records by their ids."""
    return {
        "verdict": verdict.word,
        "condition": verdict.condition,
        "summary": verdict.describe(),
        "value": verdict.entry.mean,
        "interval": verdict.interval,
        "records": [run.id for run in verdict.entry.runs],
        "published": dataclasses.asdict(verdict.reference),
    }


def _remade(result: Record) -> tuple[dict[str, float], str]:
    """The metrics made anew of what is kept of each image, and what is wrong with it."""
    try:
        kept = evidence_of(result)
        found = kept.metrics() if kept else {}
        return {name: value for name, value in found.items() if name in result.metrics}, ""
    except InputError as error:
        return {}, str(error)


def _artifact(result: Record, name: str) -> dict[str, Any]:
    """Whether a file that a record names is there, and is the one that it was written with."""
    problem, digest = fault_of(result, name), result.digests.get(name)
    state = "there, SHA-256 as recorded" if digest else "there; the record has no digest of it"
    if problem is None:
        state = "missing"
    elif problem:
        state = f"damaged: {problem}"
    file = result.path.parent / result.artifacts[name]
    is_read = problem is not None and file.is_file()
    return {
        "name": name,
        "path": result.artifacts[name],
        "digest": digest,
        "state": state,
        "bytes": file.stat().st_size if is_read else None,
    }
