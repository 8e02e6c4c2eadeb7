"""Records as CSV: a tidy file for each task, in full precision, and one of all provenance."""

import re

import pandas as pd

from micl_bench.record import Result
from micl_bench.report.metrics import interval, method_rank
from micl_bench.report.selection import Selection

_TASK_COLUMNS = [
    *("data", "stands_for", "split", "images", "train", "train_images", "train_digest", "method"),
    *("arch", "branch", "weights", "seed", "protocol", "fingerprint"),
    *("metric", "value", "low_95", "high_95", "record"),
]


def slugs(tasks: list[str]) -> dict[str, str]:
    """A distinct name for each task that is safe in a file name and an anchor."""
    names: dict[str, str] = {}
    for task in tasks:
        base = re.sub(r"[^a-z0-9]+", "-", task.lower()).strip("-") or "task"
        name, turn = base, 1
        while name in {*names.values(), "provenance"}:
            turn += 1
            name = f"{base}-{turn}"
        names[task] = name
    return names


def task_frame(selection: Selection, task: str) -> pd.DataFrame:
    """One row for each shown record of a task and metric."""
    results = sorted(
        selection.of_task(task),
        key=lambda r: (
            r.data.name,
            method_rank(r.method),
            r.protocol,
            r.fingerprint,
            r.seed,
            r.start,
            r.id,
        ),
    )
    rows = [_metric_row(result, metric) for result in results for metric in result.metrics]
    return pd.DataFrame(rows, columns=_TASK_COLUMNS)


def _metric_row(result: Result, metric: str) -> list[object]:
    data, train, bounds = result.data, result.train, interval(result, metric)
    return [
        data.name,
        data.stands_for,
        data.split,
        data.images,
        *((train.name, train.images, train.digest) if train else (None, None, None)),
        result.method,
        result.arch,
        result.checkpoint.branch,
        result.checkpoint.digest,
        result.seed,
        result.protocol,
        result.fingerprint,
        metric,
        result.metrics[metric],
        *(bounds or (None, None)),
        result.id,
    ]


def provenance_frame(selection: Selection) -> pd.DataFrame:
    """One row for each record, superseded ones too."""
    return pd.DataFrame([_provenance_row(result, selection) for _, result in selection.records])


def _provenance_row(result: Result, selection: Selection) -> dict[str, object]:
    newer = selection.replaced_by.get(result.id)
    return {
        "record": result.id,
        "task": result.task,
        "data": result.data.name,
        "data_digest": result.data.digest,
        "method": result.method,
        "checkpoint_source": result.checkpoint.source,
        "checkpoint_digest": result.checkpoint.digest,
        "checkpoint_branch": result.checkpoint.branch,
        "train_digest": result.train.digest if result.train else "",
        "recipe_digest": result.recipe_digest,
        "fingerprint": result.fingerprint,
        "seed": result.seed,
        "command": result.command,
        "code_version": result.code_version,
        "start": result.start,
        "seconds": result.seconds,
        "device_hours": result.device_hours,
        "superseded_by": newer.id if newer else "",
    }
