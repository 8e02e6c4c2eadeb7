"""Records as rows: which of them are runs of one number, and which numbers stand in one row."""

import dataclasses
from collections.abc import Callable, Mapping

import pandas as pd

from micl_bench.records.result import Record, Result
from micl_bench.report.frame.data_set_names import data_words
from micl_bench.report.frame.identity import Identity, network_of, seeds_of
from micl_bench.report.frame.long import grouped
from micl_bench.report.frame.protocols import captions, protocol_of

Columns = Mapping[int, tuple[tuple[object, ...], list[Record]]]
"""By number: the kind of a column, and its records."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One network's runs by column, each column under one protocol."""

    network: Identity
    columns: dict[int, list[Record]]
    older: frozenset[int]
    """Columns whose runs are of a recipe that a newer one of the same protocol took the place of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The rows, and what to call the protocols in them."""

    lines: list[Line]
    captions: dict[str, str]
    """Of each record, by its id."""
    mixed: frozenset[int]
    """Columns whose numbers need the mark of their protocol."""


def lay_out(columns: Columns) -> Layout:
    """Rows of the records of each column, newest first; columns of one kind share their protocols.

    A kind is the tasks of a column: an accuracy on A and one on R of the same protocol stand in one
    row, while the protocols of k-NN and of a linear probe have nothing to do with each other.
    """
    frame = pd.DataFrame(
        [(n, kind, result) for n, (kind, results) in columns.items() for result in results],
        columns=["column", "kind", "result"],
        dtype=object,
    )
    words: dict[str, str] = {}
    mixed: set[int] = set()
    for _, own in frame.groupby("kind", sort=False):
        by_column = grouped(own, "column")
        found, several = _captions(list(by_column.values()))
        words |= found
        mixed |= set(by_column) if several else set()
    for name, of in _OF_RECORDS.items():
        frame[name] = pd.Series([of(result) for result in frame["result"]], dtype=object)
    frame["caption"] = [words[result.id] for result in frame["result"]]
    frame = _in_rows(frame)
    lines = []
    for (network, _), own in frame.groupby(["network", "row"], sort=False):
        runs = grouped(own, "column")
        older = frozenset(own.loc[own["stack"] > 0, "column"])
        lines.append(Line(network=network, columns=runs, older=older))
    return Layout(lines=lines, captions=words, mixed=frozenset(mixed))


_OF_RECORDS: dict[str, Callable[[Result], object]] = {
    "network": network_of,
    "seeds": seeds_of,
    "protocol": lambda result: (result.data, protocol_of(result)),
}


def _in_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The records in the order of their rows, with the number of the `row` of their network.

    Runs of one number differ in their seeds. Of one column, network and caption, the newest run of
    each seed stands in the first `stack`, what these took the place of in the next; a row is a stack
    of one caption.
    """
    cell = ["column", "network", "caption"]
    frame["at"] = range(len(frame))
    frame["began"] = frame.groupby([*cell, "protocol"], sort=False)["at"].transform("first")
    by_seeds = frame.groupby([*cell, "protocol", "seeds"], sort=False)
    frame["turn"], frame["seeds_began"] = by_seeds.cumcount(), by_seeds["at"].transform("first")
    frame = frame.sort_values(["began", "turn", "seeds_began"], kind="stable")
    frame["stack"] = _rank(frame, cell, "began", "turn")
    frame["words"] = frame["caption"].astype("category").cat.codes
    frame["row"] = _rank(frame, ["kind", "network"], "stack", "words")
    return frame.sort_values("row", kind="stable")


def _rank(frame: pd.DataFrame, groups: list[str], first: str, then: str) -> pd.Series:
    """Of each row, how many smaller values, of the first column and then of the other, its group has."""
    values = frame[first] * len(frame) + frame[then]
    return frame.assign(value=values).groupby(groups, sort=False)["value"].rank("dense") - 1


def _captions(columns: list[list[Record]]) -> tuple[dict[str, str], bool]:
    """What to call the protocol of each record of some columns, and whether a column has several."""
    unique = {result.id: result for results in columns for result in results}
    words = captions(list(unique.values()))
    for results in columns:
        datas = {result.data for result in results}
        if len(datas) > 1:
            words |= {r.id: f"{words[r.id]}; on {data_words(r.data)}" for r in results}
    return words, any(len({words[r.id] for r in results}) > 1 for results in columns)
