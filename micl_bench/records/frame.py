"""Records as one long table: a row per record and metric."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from micl_bench.records.result import Record
from micl_bench.records.store import read_results


def load_results(folder: str | Path) -> pd.DataFrame:
    """Read all result records of a folder as one long table.

    Args:
        folder: a folder of records, at any depth. Damaged ones are named on the terminal and left out.

    Returns:
        A row per record and metric, newest record last, metrics in the order of tables:

        - `task`, `task_title`, `protocol` (one line), `fingerprint` (equal for numbers of one
          protocol), `method`, `arch`, `data` and `split` (of the images measured), `images` (their
          number), `stands_for` (a public set, or ""), `data_digest`; `train`, `train_images` and
          `train_digest` of the images that a classifier was fitted on; `seed`, `checkpoint` (file or
          name), its `branch`, its SHA-256 as `weights`, all that was `assumed` of it; `start` (UTC, ISO
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


def frame_of(records: Iterable[Record]) -> pd.DataFrame:
    """Return the table of `load_results`, of records in their order."""
    rows = [
        [
            *(of(record) for of in _OF_RECORDS.values()),
            name,
            *(getattr(number, fact) for fact in _OF_NUMBERS),
        ]
        for record in records
        for name, number in record.metrics.items()
    ]
    frame = pd.DataFrame(rows, columns=[*_OF_RECORDS, "metric", *_OF_NUMBERS])
    return frame.astype({"value": float, "low": float, "high": float, "train_images": "Int64"})


_OF_NUMBERS = ("title", "value", "low", "high", "unit", "better", "quoted")
_OF_RECORDS: dict[str, Callable[[Record], Any]] = {
    "task": lambda one: one.task,
    "task_title": lambda one: one.about.title,
    "protocol": lambda one: one.protocol,
    "fingerprint": lambda one: one.fingerprint,
    "method": lambda one: one.method,
    "arch": lambda one: one.arch,
    "data": lambda one: one.data.name,
    "split": lambda one: one.data.split,
    "images": lambda one: one.data.images,
    "stands_for": lambda one: one.data.stands_for,
    "data_digest": lambda one: one.data.digest,
    "train": lambda one: one.train.name if one.train else "",
    "train_images": lambda one: one.train.images if one.train else None,
    "train_digest": lambda one: one.train.digest if one.train else "",
    "seed": lambda one: one.seed,
    "checkpoint": lambda one: one.checkpoint.source,
    "branch": lambda one: one.checkpoint.branch,
    "weights": lambda one: one.checkpoint.digest,
    "assumed": lambda one: "; ".join(one.checkpoint.guesses),
    "start": lambda one: one.start,
    "seconds": lambda one: one.seconds,
    "id": lambda one: one.id,
    "record": lambda one: str(one.path),
}
