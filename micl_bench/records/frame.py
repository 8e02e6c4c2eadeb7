"""Records as one long table: a row per record and metric."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from micl_bench.records.declared import Number
from micl_bench.records.result import Result
from micl_bench.records.store import read_results


def load_results(folder: str | Path) -> pd.DataFrame:
    """Read all result records of a folder as one long table.

    Args:
        folder: of records, at any depth. Damaged ones are named on the terminal and left out.

    Returns:
        A row per record and metric, newest record last, metrics in the order of tables:

        - `task`, `task_title`, `protocol` (one line), `fingerprint` (equal for numbers of one
          protocol), `method`, `arch`, `data` and `split` (of the images measured), `images` (their
          number), `seed`, `checkpoint` (file or name), `start` (UTC, ISO 8601), `seconds`;
        - `metric`, `title`, `value`, `low` and `high` (ends of the 95 % interval), all three in `unit`
          and NaN where there is none; `better` ("higher", "lower", or "" where neither is); `quoted`
          (whether it is a headline of its task);
        - `id` and `record` (path) of the record.

    Raises:
        InputError: the folder is missing or holds no readable record.

    Example:
        results = micl_bench.load_results("work/results")
        table = results.pivot_table(index="method", columns=["task", "metric"], values="value")
        print(table.to_latex(float_format="%.1f"))
    """
    return frame_of(read_results(Path(folder)))


def frame_of(records: Iterable[tuple[Path, Result]]) -> pd.DataFrame:
    """The table of `load_results`, of records with their paths, in their order."""
    rows = [
        {**_shared(path, result), "metric": name, **_measured(number)}
        for path, result in records
        for name, number in result.metrics.items()
    ]
    frame = pd.DataFrame(rows)
    return frame.astype({"value": float, "low": float, "high": float}) if rows else frame


def _shared(path: Path, result: Result) -> dict[str, Any]:
    return {
        "task": result.task,
        "task_title": result.about.title,
        "protocol": result.protocol,
        "fingerprint": result.fingerprint,
        "method": result.method,
        "arch": result.arch,
        "data": result.data.name,
        "split": result.data.split,
        "images": result.data.images,
        "seed": result.seed,
        "checkpoint": result.checkpoint.source,
        "start": result.start,
        "seconds": result.seconds,
        "id": result.id,
        "record": str(path),
    }


_OF_A_NUMBER = ("title", "value", "low", "high", "unit", "better", "quoted")


def _measured(number: Number) -> dict[str, Any]:
    return {name: getattr(number, name) for name in _OF_A_NUMBER}
