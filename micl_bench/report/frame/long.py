"""The frame of a report: the long table of `micl_bench.load_results`, with the records behind it."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pandas as pd

from micl_bench.records.frame import frame_of
from micl_bench.records.names import PUBLIC_SETS, family, is_called
from micl_bench.records.result import DataSet, Record, Result
from micl_bench.report.frame.identity import network_of, seeds_of, weights_of
from micl_bench.report.frame.protocols import label_share, protocol_of

PUBLIC = ""
"""The world of the public sets, where published numbers belong."""


class Place(NamedTuple):
    """The place of a record among data sets."""

    world: str
    """`PUBLIC`, what stand-ins are called together (`embedded`), or the name of anybody's own set."""
    public_set: str
    """The public set that the images are, stand in for, or are used like."""


def place_of(result: Result) -> Place:
    """Return the place of a record; `names.family` decides which images its data set holds."""
    return _place(result.about.public_set, result.data)


@functools.lru_cache(maxsize=1024)
def _place(used_like: str, data: DataSet) -> Place:
    if data.stands_for:
        return Place(data.name.partition("-")[0], _named(data.stands_for))
    if (known := family(data)) in PUBLIC_SETS:
        return Place(PUBLIC, known)
    return Place(known, used_like or _named(data.name))


def _named(name: str) -> str:
    return next((public for public in PUBLIC_SETS if is_called(name, public)), name)


_OF_RECORDS: dict[str, Callable[[Record], Any]] = {
    "result": lambda record: record,
    "place": lambda record: record.place,
    "headline": lambda record: record.headline,
    "downstream": lambda record: record.about.downstream,
    "data_set": lambda record: record.data,
    "world": lambda record: place_of(record).world,
    "public_set": lambda record: place_of(record).public_set,
    "protocol_read": protocol_of,
    "label_share": label_share,
    "weights_read": weights_of,
    "network": network_of,
    "seeds": seeds_of,
}


def long_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return a frame with a row per record and metric, in the order of the records.

    Beside the columns of `micl_bench.load_results`, of each row's record: the `result` itself; `place`,
    which sorts by task; `headline`, the metric that stands for it; whether the task is `downstream`;
    `data_set`, with the `world` and the `public_set` that it belongs to; the `label_share` of a
    classifier; what is equal for numbers of one protocol (`protocol_read`), of the same weights
    (`weights_read`), and of one network but for its `seeds` (`network`). `speaks` says whether the row's
    metric is one of `Result.quoted`.
    """
    records = list(records)
    frame = frame_of(records)
    for name, of in _OF_RECORDS.items():
        values = [value for record in records for value in [of(record)] * len(record.metrics)]
        frame[name] = pd.Series(values, dtype=object)
    speaks = [name in record.quoted for record in records for name in record.metrics]
    frame["speaks"] = pd.Series(speaks, dtype=bool)
    return frame.astype({"downstream": bool})


def grouped(frame: pd.DataFrame, *columns: str) -> dict[Any, list[Record]]:
    """Return the records of the rows that have equal values in the columns, in the order of the rows.

    The key is the value, or the tuple of values; a record appears once per row.
    """
    by = columns[0] if len(columns) == 1 else list(columns)
    return {key: rows["result"].tolist() for key, rows in frame.groupby(by, sort=False)}
