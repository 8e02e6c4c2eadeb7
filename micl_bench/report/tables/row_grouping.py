"""Records as rows: which of them are runs of one number, and which numbers stand in one row."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from micl_bench.records.result import DataSet, Result
from micl_bench.report.frame.entries import Run
from micl_bench.report.frame.identity import Identity, network_of, seeds_of
from micl_bench.report.frame.protocols import captions, protocol_of

Seeds = tuple[str | int, ...]
Columns = Mapping[int, tuple[tuple[object, ...], list[Result]]]
"""By number: the kind of a column, and its records."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One network's runs by column, each column under one protocol."""

    network: Identity
    columns: dict[int, list[Run]]
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


_Stacks = dict[str, list[list[Run]]]
"""By caption: the newest runs of it, then those that these took the place of, and so on."""


def lay_out(columns: Columns, paths: dict[str, Path]) -> Layout:
    """Rows of the records of each column, newest first; columns of one kind share their protocols.

    A kind is the tasks of a column: an accuracy on A and one on R of the same protocol stand in one
    row, while the protocols of k-NN and of a linear probe have nothing to do with each other.
    """
    kinds: dict[tuple[object, ...], list[int]] = {}
    for number, (kind, _) in columns.items():
        kinds.setdefault(kind, []).append(number)
    words: dict[str, str] = {}
    mixed: set[int] = set()
    rows: dict[Identity, dict[int, Line]] = {}
    for numbers in kinds.values():
        own, several = _captions([columns[number][1] for number in numbers])
        words |= own
        mixed |= set(numbers) if several else set()
        unique = {result.id: result for number in numbers for result in columns[number][1]}
        places = {key: (network_of(one), seeds_of(one)) for key, one in unique.items()}
        stacks = {n: _stacks(columns[n][1], own, places, paths) for n in numbers}
        for network in dict.fromkeys(one for stack in stacks.values() for one in stack):
            found = {n: stack[network] for n, stack in stacks.items() if network in stack}
            _place(rows.setdefault(network, {}), network, found)
    lines = [line for found in rows.values() for line in found.values()]
    return Layout(lines=lines, captions=words, mixed=frozenset(mixed))


def _place(rows: dict[int, Line], network: Identity, stacks: dict[int, _Stacks]) -> None:
    """Put one network's runs of one kind into its rows, a protocol a row."""
    places = sorted(
        {
            (turn, caption)
            for found in stacks.values()
            for caption, turns in found.items()
            for turn in range(len(turns))
        }
    )
    for row, (turn, caption) in enumerate(places):
        here = {n: s[caption][turn] for n, s in stacks.items() if turn < len(s.get(caption, ()))}
        line = rows.get(row) or Line(network=network, columns={}, older=frozenset())
        rows[row] = dataclasses.replace(
            line,
            columns=line.columns | here,
            older=line.older | (set(here) if turn else set()),
        )


def _captions(columns: list[list[Result]]) -> tuple[dict[str, str], bool]:
    """What to call the protocol of each record of some columns, and whether a column has several."""
    unique = {result.id: result for results in columns for result in results}
    words = captions(list(unique.values()))
    for results in columns:
        datas = {result.data for result in results}
        if len(datas) > 1:
            words |= {r.id: f"{words[r.id]}; on {_data_words(r.data)}" for r in results}
    return words, any(len({words[r.id] for r in results}) > 1 for results in columns)


def _data_words(data: DataSet) -> str:
    return f"{data.images:,} images of {data.name}, split {data.split}, digest {data.digest[:7]}"


def _stacks(
    results: list[Result],
    words: dict[str, str],
    places: dict[str, tuple[Identity, Seeds]],
    paths: dict[str, Path],
) -> dict[Identity, _Stacks]:
    """The runs of one column by network and caption; `results` come newest first.

    Args:
        words: the caption of each record's protocol, by its id; `places`: its network and seeds.
    """
    groups: dict[tuple[Identity, str, object], dict[Seeds, list[Run]]] = {}
    for result in results:
        network, seeds = places[result.id]
        key = (network, words[result.id], (result.data, protocol_of(result)))
        runs = groups.setdefault(key, {}).setdefault(seeds, [])
        runs.append((paths[result.id], result))
    found: dict[Identity, _Stacks] = {}
    for (network, caption, _), by_seeds in groups.items():
        turns = found.setdefault(network, {}).setdefault(caption, [])
        for turn in range(max(map(len, by_seeds.values()))):
            turns.append([runs[turn] for runs in by_seeds.values() if turn < len(runs)])
    return found
