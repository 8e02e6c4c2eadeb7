"""The contenders of `micl-bench compare`: the records of each argument, run by run."""

import dataclasses
import string
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from micl_bench.records.result import DataSet, Record, Result, read_result
from micl_bench.records.store import read_results
from micl_bench.report.frame.entries import distinct
from micl_bench.report.frame.identity import labels, network_of, weights_of
from micl_bench.report.frame.long import grouped
from micl_bench.report.frame.naming import assumed_words
from micl_bench.report.frame.selection import select
from micl_bench.runtime.errors import InputError


class Place(NamedTuple):
    """Numbers of one place can be compared."""

    task: str
    data: DataSet
    fingerprint: str
    train: DataSet | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """One argument of the command."""

    letter: str
    source: Path
    runs: dict[Place, list[Record]]
    """The runs of one method, by place."""

    def describe(self) -> str:
        """Return a line with method, architecture and place of the records."""
        results = [result for runs in self.runs.values() for result in runs]
        names = dict.fromkeys(f"{result.method}, {result.arch}" for result in results)
        return f"{self.letter}  {' and '.join(names)}  ({self.source})"

    @property
    def notes(self) -> list[str]:
        """Lines on why several checkpoints count as runs of one method, if not by their files."""
        several = [runs for runs in self.runs.values() if len(set(map(weights_of, runs))) > 1]
        results = [result for runs in several for result in runs]
        stated = {s.method for r in results for s in r.checkpoint.origin if s.stated}
        found = [
            f"stated by the user: its checkpoints are seeds of {name}" for name in sorted(stated)
        ]
        found += assumed_words(result for runs in self.runs.values() for result in runs)
        if any(network_of(result).digest for result in results):
            found.append(
                "its checkpoints do not state that they differ in their seed alone, and count as runs "
                "because they were given as one; a report has a row for each (see eval --pretrain-name)"
            )
        return found


def read_contenders(sources: Sequence[Path]) -> list[Contender]:
    """Read a record file or a folder of records for each argument.

    Raises:
        InputError: too few or too many arguments, no record, or a folder with several methods in
            one place, or with several networks of one method.
    """
    letters = string.ascii_uppercase
    if not 2 <= len(sources) <= len(letters):
        raise InputError(f"{len(sources)} given to compare; needed: 2 to {len(letters)}")
    return [
        Contender(letter=letter, source=source, runs=_runs(source))
        for letter, source in zip(letters, sources, strict=False)
    ]


def _runs(source: Path) -> dict[Place, list[Record]]:
    found = [read_result(source)] if source.is_file() else read_results(source)
    frame = select(found).frame[::-1]
    frame = frame.assign(where=frame["result"].map(_place))
    # Of the same weights under the same seed only the newest counts: it is one run.
    newest = frame.drop_duplicates(["where", "weights_read", "seed"], keep="last")
    places: dict[Place, list[Record]] = grouped(newest, "where")
    for place, runs in places.items():
        methods = _methods(runs)
        if len(methods) > 1:
            raise InputError(
                f"{source} holds {place.task} on {place.data.name} of several methods: "
                f"{'; '.join(methods)}; give record files, or a folder a method"
            )
    return {place: distinct(runs) for place, runs in places.items()}


def _place(record: Record) -> Place:
    return Place(record.task, record.data, record.fingerprint, record.train)


def _methods(results: Sequence[Result]) -> list[str]:
    """Return labels of methods, and of networks of one file, that are no runs of each other."""
    # Seeds may differ among the runs of one method, and weights of which nothing is known.
    found = dict.fromkeys(network_of(result)._replace(digest="") for result in results)
    names = labels(found)
    return list(dict.fromkeys(f"{names[one]}, {one.arch}" for one in found))
