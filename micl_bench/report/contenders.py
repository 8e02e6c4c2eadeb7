"""What `micl-bench compare` holds against each other: the records of each argument, run by run."""

import dataclasses
import string
from collections.abc import Sequence
from pathlib import Path

from micl_bench.errors import InputError
from micl_bench.record import DataSet, Result, read_result, read_results
from micl_bench.report.selection import select

Run = tuple[Path, Result]
Place = tuple[str, DataSet, str]
"""Task, images and fingerprint: numbers of one place can be compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """One argument of the command."""

    letter: str
    source: Path
    runs: dict[Place, list[Run]]
    """One method's records by place; several where it was run with several seeds."""

    def describe(self) -> str:
        """Method and architecture, and where the records are."""
        results = [result for runs in self.runs.values() for _, result in runs]
        names = dict.fromkeys(f"{result.method}, {result.arch}" for result in results)
        return f"{self.letter}  {' and '.join(names)}  ({self.source})"


def read_contenders(sources: Sequence[Path]) -> list[Contender]:
    """Read a record file or a folder of records for each argument.

    Raises:
        InputError: too few or too many arguments, no record, or a folder with several methods in
            one place.
    """
    letters = string.ascii_uppercase
    if not 2 <= len(sources) <= len(letters):
        raise InputError(f"{len(sources)} given to compare; needed: 2 to {len(letters)}")
    return [
        Contender(letter=letter, source=source, runs=_runs(source))
        for letter, source in zip(letters, sources, strict=False)
    ]


def _runs(source: Path) -> dict[Place, list[Run]]:
    found = [(source, read_result(source))] if source.is_file() else read_results(source)
    places: dict[Place, dict[tuple[str, int], Run]] = {}
    selection = select(found)
    for result in selection.current:
        place = (result.task, result.data, result.fingerprint)
        # Of the same weights under the same seed only the newest counts: it is one run.
        run = (result.checkpoint.digest, result.seed)
        places.setdefault(place, {})[run] = (selection.path_of(result), result)
    for (task, data, _), runs in places.items():
        methods = dict.fromkeys(f"{r.method}, {r.arch}" for _, r in runs.values())
        if len(methods) > 1:
            raise InputError(
                f"{source} holds {task} on {data.name} of several methods: {'; '.join(methods)}; "
                "give record files, or a folder a method"
            )
    return {place: list(runs.values()) for place, runs in places.items()}
