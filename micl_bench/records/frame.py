"""Records as one long table: a row per record and metric."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

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
          number), `stands_for` (a public set, or ""), `data_digest`; `train`, `train_images` and
          `train_digest` of the images that a classifier was fitted on; `seed`, `checkpoint` (file or
          name), its `branch`, its SHA-256 as `weights`, what was `assumed` of it; `start` (UTC, ISO
          8601), `seconds`;
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
        [
            *(of(result) for of in _OF_RECORDS.values()),
            str(path),
            name,
            *(getattr(number, fact) for fact in _OF_NUMBERS),
        ]
        for path, result in records
        for name, number in result.metrics.items()
    ]
    frame = pd.DataFrame(rows, columns=[*_OF_RECORDS, "record", "metric", *_OF_NUMBERS])
    return frame.astype({"value": float, "low": float, "high": float, "train_images": "Int64"})


_OF_NUMBERS = ("title", "value", "low", "high", "unit", "better", "quoted")
_OF_RECORDS: dict[str, Callable[[Result], Any]] = {
    "task": lambda result: result.task,
    "task_title": lambda result: result.about.title,
    "protocol": lambda result: result.protocol,
    "fingerprint": lambda result: result.fingerprint,
    "method": lambda result: result.method,
    "arch": lambda result: result.arch,
    "data": lambda result: result.data.name,
    "split": lambda result: result.data.split,
    "images": lambda result: result.data.images,
    "stands_for": lambda result: result.data.stands_for,
    "data_digest": lambda result: result.data.digest,
    "train": lambda result: result.train.name if result.train else "",
    "train_images": lambda result: result.train.images if result.train else None,
    "train_digest": lambda result: result.train.digest if result.train else "",
    "seed": lambda result: result.seed,
    "checkpoint": lambda result: result.checkpoint.source,
    "branch": lambda result: result.checkpoint.branch,
    "weights": lambda result: result.checkpoint.digest,
    "assumed": lambda result: "; ".join(result.checkpoint.guesses),
    "start": lambda result: result.start,
    "seconds": lambda result: result.seconds,
    "id": lambda result: result.id,
}
