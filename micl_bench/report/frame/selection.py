"""Which records a report shows: the newest of each measurement, and what it takes the place of."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pandas as pd

from micl_bench.records.result import Result
from micl_bench.report.frame.identity import weights_of
from micl_bench.report.frame.lineage import pretraining_stage
from micl_bench.report.frame.long import long_frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """All records, split into those that are shown and those that a newer one replaces."""

    records: list[tuple[Path, Result]]
    """Every record with its file, oldest first."""
    current: list[Result]
    """Those that are shown. A pre-training's has the method that the evaluations of its weights call
    it, where all of them call it the same: its own record knows the objective's name alone."""
    replaced_by: dict[str, Result]
    """By the id of a superseded record."""
    paths: dict[str, Path]
    """The file of each record, by its id."""

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The long table of those that are shown, newest first."""
        newest = reversed(self.current)
        return long_frame((self.paths[result.id], result) for result in newest)

    @property
    def tasks(self) -> list[str]:
        """Tasks with a record, in the order of the report."""
        return [task for _, task in sorted({result.place for result in self.current})]

    def of_task(self, task: str) -> list[Result]:
        """The shown records of one task, newest first."""
        return [result for result in reversed(self.current) if result.task == task]

    def with_artefact(self, name: str) -> list[Result]:
        """The shown records that name a file so, newest first."""
        return [result for result in reversed(self.current) if name in result.artifacts]

    def path_of(self, result: Result) -> Path:
        """The file of a record."""
        return self.paths[result.id]

    def method_of(self, result: Result) -> str:
        """What the report calls the method of a record."""
        shown = self._by_id.get(result.id)
        return shown.method if shown else result.method

    @functools.cached_property
    def _by_id(self) -> dict[str, Result]:
        return {result.id: result for result in self.current}


def select(records: list[tuple[Path, Result]]) -> Selection:
    """Keep the newest record of each measurement; `records` come oldest first."""
    unique = {result.id: (path, result) for path, result in records}
    newest = {_measurement(result): identity for identity, (_, result) in unique.items()}
    chosen = set(newest.values())
    return Selection(
        records=list(unique.values()),
        current=_named([result for identity, (_, result) in unique.items() if identity in chosen]),
        replaced_by={
            identity: unique[newest[_measurement(result)]][1]
            for identity, (_, result) in unique.items()
            if identity not in chosen
        },
        paths={identity: path for identity, (path, _) in unique.items()},
    )


def _named(results: list[Result]) -> list[Result]:
    """The same, pre-trainings by the names that their evaluations have for them."""
    names: dict[tuple[str, str], set[str]] = {}
    for result in results:
        if (stage := pretraining_stage(result)) and result.task != "pretrain":
            names.setdefault((stage.fingerprint, stage.data_digest), set()).add(result.method)
    return [_called(result, names) if result.task == "pretrain" else result for result in results]


def _called(run: Result, names: dict[tuple[str, str], set[str]]) -> Result:
    found = names.get((run.fingerprint, (run.train or run.data).digest), set())
    if len(found) != 1 or found == {run.method}:
        return run
    named = dataclasses.replace(run, method=next(iter(found)))
    # It stays the same record.
    named.__dict__["id"] = run.id
    return named


def _measurement(result: Result) -> tuple[Any, ...]:
    """Records with equal answers here measure the same: the later one takes the earlier's place."""
    return (
        result.task,
        result.data,
        result.method,
        result.arch,
        weights_of(result),
        result.train,
        result.protocol,
        result.fingerprint,
        result.recipe_digest,
        result.seed,
    )
