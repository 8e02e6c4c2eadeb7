"""The records that a report shows: the newest of each measurement; the others are superseded."""

import dataclasses
import functools
from collections.abc import Iterable

import pandas as pd

from micl_bench.records.result import Record, Result
from micl_bench.report.frame.identity import weights_of
from micl_bench.report.frame.lineage import PRETRAIN, pretraining_stage
from micl_bench.report.frame.long import long_frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """All records, divided into those that are shown and those that a newer one supersedes."""

    records: list[Record]
    """Every record, each once, oldest first."""
    current: list[Record]
    """Those that are shown. A pre-training's has the method that the evaluations of its weights call
    it, where all of them call it the same: its own record knows the objective's name alone."""
    replaced_by: dict[str, Record]
    """The newest record of the same measurement, by the id of a superseded record."""

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The long table of the shown records, newest first."""
        return long_frame(reversed(self.current))

    @property
    def tasks(self) -> list[str]:
        """The tasks that have a record, in the order of the report."""
        return [task for _, task in sorted({result.place for result in self.current})]

    def of_task(self, task: str) -> list[Record]:
        """Return the shown records of one task, newest first."""
        return [result for result in reversed(self.current) if result.task == task]

    def with_artefact(self, name: str) -> list[Record]:
        """Return the shown records that have an artefact of this name, newest first."""
        return [result for result in reversed(self.current) if name in result.artifacts]

    def method_of(self, result: Result) -> str:
        """Return the name of a record's method in the report."""
        return self._methods.get(result.id, result.method)

    @functools.cached_property
    def _methods(self) -> dict[str, str]:
        return {result.id: result.method for result in self.current}


def select(records: Iterable[Record]) -> Selection:
    """Select the newest record of each measurement; `records` come oldest first."""
    unique = {record.id: record for record in records}
    newest = {_measurement(record): record for record in unique.values()}
    replaced_by = {
        identity: newer
        for identity, record in unique.items()
        if (newer := newest[_measurement(record)]).id != identity
    }
    return Selection(
        records=list(unique.values()),
        current=_named([one for identity, one in unique.items() if identity not in replaced_by]),
        replaced_by=replaced_by,
    )


def _named(results: list[Record]) -> list[Record]:
    """Rename the method of each pre-training whose evaluations agree on one name."""
    names: dict[tuple[str, str], set[str]] = {}
    for result in results:
        if (stage := pretraining_stage(result)) and result.task != PRETRAIN:
            names.setdefault((stage.fingerprint, stage.data_digest), set()).add(result.method)

    def named(run: Record) -> Record:
        found = names.get((run.fingerprint, (run.train or run.data).digest), set())
        is_one = run.task == PRETRAIN and len(found) == 1
        return dataclasses.replace(run, method=min(found)) if is_one else run

    return list(map(named, results))


def _measurement(result: Result) -> tuple[object, ...]:
    """Return a key that is equal for records of one measurement: the latest supersedes others."""
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
