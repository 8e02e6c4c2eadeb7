"""Everything behind one number: a record with all it names, checked again, or a published row."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.published import Reference, measures
from micl_bench.records.result import Result
from micl_bench.report.compare.against_published import Verdict, verdicts
from micl_bench.report.compare.bootstrapped import Redrawn, read_kept
from micl_bench.report.compare.per_image_checks import corrupted_scores
from micl_bench.report.frame.intact import fault_of
from micl_bench.report.frame.selection import select
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json

Run = tuple[Path, Result]
_DIGEST = 10


def find_record(name: str, records: list[Run]) -> Run:
    """The record of an id, of a beginning of one, or of a beginning of an id's last part, the digest.

    Args:
        records: of a store.

    Raises:
        InputError: none, or several.
    """
    fitting = {
        result.id: (path, result)
        for path, result in records
        if result.id.startswith(name) or result.id[-_DIGEST:].startswith(name)
    }
    if name in fitting:
        return fitting[name]
    if len(fitting) != 1:
        raise InputError(_not_one(name, list(fitting), "record"))
    return next(iter(fitting.values()))


def find_reference(name: str, references: list[Reference]) -> Reference:
    """The published number of an id, or of a beginning of one.

    Raises:
        InputError: none, or several.
    """
    fitting = [reference for reference in references if reference.id.startswith(name)]
    if len(fitting) != 1:
        raise InputError(_not_one(name, [one.id for one in fitting], "published number"))
    return fitting[0]


def _not_one(name: str, ids: list[str], kind: str) -> str:
    if not ids:
        return f"no {kind} has the id {name!r}, or one that begins so"
    shown = ", ".join(sorted(ids)[:5])
    return f"{len(ids)} {kind}s have an id that begins with {name!r} ({shown}); give more of it"


def explain(run: Run, records: list[Run], references: list[Reference]) -> dict[str, Any]:
    """The evidence of a record, as values that JSON can hold; what is not a number is None.

    Args:
        records: of its store: what supersedes it, and the other seeds of its number.
    """
    path, result = run
    remade, problem = _remade(path, result)
    unique = {one.id: (place, one) for place, one in [*records, run]}
    selection = select(sorted(unique.values(), key=lambda pair: (pair[1].start, pair[1].id)))
    newer = selection.replaced_by.get(result.id)
    return _plain(
        {
            "kind": "measured",
            "id": result.id,
            "record": str(path),
            "task": result.task,
            "protocol": result.protocol,
            "method": result.method,
            "arch": result.arch,
            "metrics": [_metric(result, name, remade) for name in result.metrics],
            "evidence": _evidence_words(remade, problem),
            "problems": [problem] if problem else [],
            "data": dataclasses.asdict(result.data),
            "train": dataclasses.asdict(result.train) if result.train else None,
            "checkpoint": dataclasses.asdict(result.checkpoint),
            "recipe": result.recipe,
            "recipe_digest": result.recipe_digest,
            "recipe_digest_fits": digest_json(result.recipe) == result.recipe_digest,
            "settings": result.settings,
            "fingerprint": result.fingerprint,
            "seed": result.seed,
            "code_version": result.code_version,
            "environment": result.environment,
            "start": result.start,
            "seconds": result.seconds,
            "device_hours": result.device_hours,
            "artifacts": [_artifact(path, result, name) for name in result.artifacts],
            "superseded_by": newer.id if newer else None,
            "supersedes": [
                old for old, new in selection.replaced_by.items() if new.id == result.id
            ],
            "published": [
                as_plain(one)
                for one in verdicts([result] if newer else selection.current, references)
                if any(other.id == result.id for other in one.results)
            ],
            "command": result.command,
        }
    )


def explain_reference(reference: Reference) -> dict[str, Any]:
    """A published row: what it says, where it was read, and which of our numbers it is one of."""
    task, data, metric = measures(reference)
    low, high = reference.bounds
    return {
        "kind": "published",
        **dataclasses.asdict(reference),
        "stands_for": [low, high],
        "measures": {"task": task, "data": data, "metric": metric},
    }


def as_plain(verdict: Verdict) -> dict[str, Any]:
    """A verdict as values that JSON can hold, its records by their ids."""
    return {
        "verdict": verdict.word,
        "summary": verdict.describe(),
        "value": verdict.value,
        "interval": verdict.interval,
        "condition": verdict.condition,
        "records": [result.id for result in verdict.results],
        "published": dataclasses.asdict(verdict.reference),
    }


def _metric(result: Result, name: str, remade: dict[str, float]) -> dict[str, Any]:
    return {
        "name": name,
        **dataclasses.asdict(result.metrics[name]),
        "header": result.metrics[name].header,
        "from_evidence": remade.get(name),
    }


def _remade(path: Path, result: Result) -> tuple[dict[str, float], str]:
    """The metrics made anew of what is kept of each image, and what is wrong with it."""
    try:
        kept = read_kept(path, result)
        if isinstance(kept, Redrawn):
            return {name: v for name, v in kept.metrics.items() if name in result.metrics}, ""
        if kept is not None:
            return _accuracies(result, kept), ""
    except InputError as error:
        return {}, str(error)
    return {}, ""


def _accuracies(result: Result, kept: Predictions) -> dict[str, float]:
    found = {name: kept.accuracy(name) for name in kept.correct if name in result.metrics}
    if {"clean_top1", "top1"} <= found.keys() and "drop" in result.metrics:
        found["drop"] = found["clean_top1"] - found["top1"]
    for name in ("top1", "mCE"):
        if name in result.metrics and name not in found:
            scores_N = corrupted_scores(result, kept, name)
            if scores_N is not None:
                found[name] = float(scores_N.mean())
    return found


def _evidence_words(remade: dict[str, float], problem: str) -> str:
    if problem:
        return "damaged"
    if not remade:
        return "none is kept of each image"
    return (
        f"{len(remade)} metrics made again from what is kept of each image: they are the record's"
    )


def _artifact(record: Path, result: Result, name: str) -> dict[str, Any]:
    """Whether a file that a record names is there, and is the one that it was written with."""
    stated = result.digests.get(name)
    found: dict[str, Any] = {
        "name": name,
        "path": result.artifacts[name],
        "digest": stated,
        "state": "there",
    }
    problem = fault_of(record, result, name)
    if problem is None:
        return found | {"state": "missing"}
    path = record.parent / result.artifacts[name]
    if path.is_file():
        found["bytes"] = path.stat().st_size
    if problem:
        return found | {"state": f"damaged: {problem}"}
    if stated is None:
        return found | {"state": "there; the record has no digest of it"}
    return found | {"state": "there, SHA-256 as recorded"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
