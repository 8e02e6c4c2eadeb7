"""The long table of `micl_bench.load_results`, with the records behind its rows."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from micl_bench.records.frame import frame_of
from micl_bench.records.result import Result
from micl_bench.report.frame.identity import weights_of

_OF_RECORDS: dict[str, Callable[[Result], Any]] = {
    "result": lambda result: result,
    "place": lambda result: result.place,
    "data_set": lambda result: result.data,
    "weights_read": weights_of,
    "headline": lambda result: result.headline,
}


def long_frame(records: Iterable[tuple[Path, Result]]) -> pd.DataFrame:
    """A row per record and metric, in the order of the records.

    Beside the columns of `micl_bench.load_results`, of each row's record: the `result` itself; `place`,
    which sorts by task; `data_set`; `weights_read`, equal for the same weights; `headline`, the metric
    that stands for it.
    """
    records = list(records)
    rows = [result for _, result in records for _ in result.metrics]
    frame = frame_of(records)
    for name, of in _OF_RECORDS.items():
        frame[name] = pd.Series([of(result) for result in rows], dtype=object)
    return frame


def grouped(frame: pd.DataFrame, *columns: str) -> dict[Any, list[Result]]:
    """The records of the rows that have equal values in the columns, in the order of the rows.

    Returns:
        By value, or by tuple of values: each record once for each of its rows.
    """
    by = columns[0] if len(columns) == 1 else list(columns)
    return {key: rows["result"].tolist() for key, rows in frame.groupby(by, sort=False)}
