"""Which records a report shows: the newest of each measurement, and what it takes the place of."""

import dataclasses
from pathlib import Path
from typing import Any

from micl_bench.record import Result
from micl_bench.report.metrics import task_rank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """All records, split into those that are shown and those that a newer one replaces."""

    records: list[tuple[Path, Result]]
    """Every record with its file, oldest first."""
    current: list[Result]
    replaced_by: dict[str, Result]
    """By the id of a superseded record."""

    @property
    def tasks(self) -> list[str]:
        """Tasks with a record, in the order of the report."""
        return sorted({result.task for result in self.current}, key=task_rank)

    def of_task(self, task: str) -> list[Result]:
        """The shown records of one task, newest first."""
        return [result for result in reversed(self.current) if result.task == task]

    def path_of(self, result: Result) -> Path:
        """The file of a record."""
        return next(path for path, other in self.records if other.id == result.id)


def select(records: list[tuple[Path, Result]]) -> Selection:
    """Keep the newest record of each measurement; `records` come oldest first."""
    unique = list({result.id: (path, result) for path, result in records}.values())
    newest = {_measurement(result): result for _, result in unique}
    chosen = {result.id for result in newest.values()}
    return Selection(
        records=unique,
        current=[result for _, result in unique if result.id in chosen],
        replaced_by={
            result.id: newest[_measurement(result)]
            for _, result in unique
            if result.id not in chosen
        },
    )


def _measurement(result: Result) -> tuple[Any, ...]:
    """Records with equal answers here measure the same: the later one takes the earlier's place."""
    return (
        result.task,
        result.data,
        result.method,
        result.arch,
        result.checkpoint.digest,
        result.protocol,
        result.fingerprint,
        result.recipe_digest,
        result.seed,
    )
