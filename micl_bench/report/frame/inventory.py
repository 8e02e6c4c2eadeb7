"""The contents of a store: records, those that no longer count, damaged files, missing runs."""

import dataclasses
import os
from pathlib import Path
from typing import Literal

from micl_bench.records.plans import Plan, PlannedRun, is_stale, read_plans
from micl_bench.records.result import Record
from micl_bench.records.store import Damaged, read_store
from micl_bench.report.frame.selection import Selection, select
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable
from micl_bench.runtime.wording import counted

Status = Literal["current", "superseded", "stale"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """A store as it was read once; nothing in it says where the store lies or when it was read."""

    records: list[Record]
    """Every readable record, each once, oldest first."""
    files: dict[str, str]
    """By a record's id, its file relative to the store."""
    selection: Selection
    """The records that count: all but the stale ones."""
    stale: frozenset[str]
    """Ids of records in a folder that a suite made and no plan names any more."""
    damaged: list[tuple[str, str]]
    """File, relative to the store, and the fault."""
    plans: list[Plan]

    def status(self, identity: str) -> Status:
        """Return whether a record counts, or why it does not."""
        if identity in self.stale:
            return "stale"
        return "superseded" if identity in self.selection.replaced_by else "current"

    @property
    def missing(self) -> list[tuple[str, PlannedRun]]:
        """Suite and run, of all planned runs that are not done."""
        return [
            (plan.suite, run) for plan in self.plans for run in plan.runs if run.state != "done"
        ]

    @property
    def stand_ins(self) -> list[tuple[str, str]]:
        """Embedded sets, and the public sets that they stand in for."""
        sets = {result.data for result in self.records}
        return sorted({(data.name, data.stands_for) for data in sets if data.stands_for})


def take_inventory(store: Path) -> Inventory:
    """Read a store and return its inventory.

    Raises:
        InputError: the folder is missing or holds no readable record.
    """
    found = read_store(store)
    plans, damaged_plans = read_plans(store)
    damaged = [_relative(store, each) for each in (*found.damaged, *damaged_plans)]
    if not found.records:
        names = "".join(f"; {name}: {reason}" for name, reason in damaged[:3])
        raise InputError(
            f"no readable record below {store} ({len(damaged)} damaged{names}); "
            "`micl-bench eval` writes them"
        )
    # Of one record in several files, the first name stands for all, whatever order a disk lists them in.
    by_name = sorted(found.records, key=lambda record: record.path.as_posix(), reverse=True)
    unique = {record.id: record for record in by_name}
    records = sorted(unique.values(), key=lambda record: (record.start, record.id))
    # Which records are stale takes all plans: a damaged one may hold the run of any of them.
    whole = [] if damaged_plans else plans
    stale = {one.id for one in records if is_stale(store, one.path, whole)}
    return Inventory(
        records=records,
        files={one.id: one.path.relative_to(store).as_posix() for one in records},
        selection=select([one for one in records if one.id not in stale]),
        stale=frozenset(stale),
        damaged=sorted(damaged),
        plans=plans,
    )


def describe(inventory: Inventory) -> list[str]:
    """Return lines for the terminal: the number of records, and each damaged file by name."""
    replaced = len(inventory.selection.replaced_by)
    words = [counted(len(inventory.records), "record")]
    words += [f"{replaced:,} of them superseded"] if replaced else []
    words += [f"{len(inventory.stale):,} stale"] if inventory.stale else []
    missing = len(inventory.missing)
    words += [f"{counted(missing, 'planned run')} missing"] if missing else []
    words += [f"{len(inventory.damaged):,} damaged"] if inventory.damaged else []
    lines = [", ".join(words)]
    lines += [f"skipped: {name}: {reason}" for name, reason in inventory.damaged]
    return [printable(line) for line in lines]


def _relative(store: Path, damaged: Damaged) -> tuple[str, str]:
    """Return file and reason, without the place of the store."""
    reason = damaged.reason.removeprefix(f"{damaged.path} ")
    reason = reason.removeprefix("is not a result record: ").replace(f"{store}{os.sep}", "")
    return damaged.path.relative_to(store).as_posix(), reason
