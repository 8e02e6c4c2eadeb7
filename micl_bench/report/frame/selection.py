"""Which records a report shows: the newest of each measurement, and what it takes the place of."""

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
    """All records, split into those that are shown and those that a newer one replaces."""

    records: list[Record]
    """Every record, each once, oldest first."""
    current: list[Record]
    """Those that are shown. A pre-training's has the method that the evaluations of its weights call
    it, where all of them call it the same: its own record knows the objective's name alone."""
    replaced_by: dict[str, Record]
    """By the id of a superseded record."""

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The long table of those that are shown, newest first."""
        return long_frame(reversed(self.current))

    @property
    def tasks(self) -> list[str]:
        """Tasks with a record, in the order of the report."""
        return [task for _, task in sorted({result.place for result in self.current})]

    def of_task(self, task: str) -> list[Record]:
        """The shown records of one task, newest first."""
        return [result for result in reversed(self.current) if result.task == task]

    def with_artefact(self, name: str) -> list[Record]:
        """The shown records that name a file so, newest first."""
        return [result for result in reversed(self.current) if name in result.artifacts]

    def method_of(self, result: Result) -> str:
        """What the report calls the method of a record."""
        return self._methods.get(result.id, result.method)

    @functools.cached_property
    def _methods(self) -> dict[str, str]:
        return {result.id: result.method for result in self.current}


def select(records: Iterable[Record]) -> Selection:
    """Keep the newest record of each measurement; `records` come oldest first."""
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
    """The same, pre-trainings by the one name that their evaluations have for them."""
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
