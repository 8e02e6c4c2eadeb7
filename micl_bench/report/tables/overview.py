"""The records of a store, the runs that are missing and the files that are damaged, as tables."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from micl_bench.records.result import Record
from micl_bench.report.audit.faults import Faults
from micl_bench.report.frame.inventory import Inventory
from micl_bench.report.frame.long import grouped
from micl_bench.report.frame.naming import assumed_words, label_in_full, method_rank
from micl_bench.report.tables.measured_cell import Notes
from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.runtime.wording import counted, plural

_MOST_NAMES = 5
_Place = tuple[tuple[int, str], str, str]
"""A column: the task with its place in a report, the data set's label, the metric."""


def overview_table(inventory: Inventory) -> Table:
    """Return the table of methods against tasks, with the number and the range of their scores.

    Several records of one cell may be of several protocols: they give a range, never a mean.
    """
    frame = inventory.selection.frame[::-1]
    frame = frame[frame["metric"] == frame["headline"]]
    several = frame.groupby(["task", "data"])["data_set"].transform("nunique") > 1
    frame = frame.assign(label=frame["data"].where(~several, frame["data_set"].map(label_in_full)))
    found: dict[tuple[str, _Place], list[Record]] = {
        (method, tuple(place)): results
        for (method, *place), results in grouped(
            frame, "method", "place", "label", "metric"
        ).items()
    }
    waiting = _waiting(inventory)
    columns = {
        place: _column(place, found[method, place][0]) for method, place in sorted(found, key=_last)
    }
    known = {task for (_, task), _, _ in columns}
    planned = {task: title for (_, task), (title, *_) in waiting.items() if task not in known}
    columns |= {
        ((0, task), "", ""): Column(
            key=f"{task}//", group=title.partition(":")[0], header="no record yet", numeric=True
        )
        for task, title in sorted(planned.items(), key=_last)
    }
    notes = Notes()
    rows = []
    for method in sorted({method for method, _ in (*found, *waiting)}, key=method_rank):
        cells = (
            _measured(found[method, place], place[2], notes)
            if (method, place) in found
            else _missing(waiting.get((method, place[0][1])))
            for place in columns
        )
        rows.append(Row(label=method, kind="measured", cells=tuple(cells)))
    return Table(
        name="overview",
        title="What was run",
        caption="Each method in each task: the metric that people quote, of all records that count. "
        "Where a cell has several, of several seeds, networks or protocols, it shows their range; "
        "the tables below keep protocols apart.",
        columns=tuple(columns.values()),
        rows=tuple(rows),
        footnotes=notes.footnotes,
        stands_for=tuple(inventory.stand_ins),
    )


def missing_table(inventory: Inventory) -> Table:
    """Return the table of runs that a suite planned and that are not done."""
    return _of_words(
        "missing",
        "What is missing",
        "Runs that suites planned and that failed or were not yet started.",
        ("State", "Suite", "Task", "Method", "Data", "Seed", "Problem", "Command"),
        (
            (
                run.name,
                run.state,
                suite,
                run.title or run.task,
                run.method,
                run.data,
                str(run.seed) if run.seed >= 0 else "",
                run.problem,
                run.command,
            )
            for suite, run in inventory.missing
        ),
    )


def damaged_table(inventory: Inventory) -> Table:
    """Return the table of files that claim to be a record or a plan, and cannot be read as one."""
    caption = "Passed over: none of the numbers comes from them."
    return _of_words("damaged", "Damaged files", caption, ["What is wrong"], inventory.damaged)


def faulty_table(faults: Faults) -> Table:
    """Return the table of files beside records that are not the files that the records need."""
    title = "Damaged files beside records"
    caption = "Left out: the numbers of their records stand, tests and pictures go without them."
    return _of_words("damaged-beside", title, caption, ["What is wrong"], faults.damaged)


def gone_words(faults: Faults) -> str:
    """Return a sentence on the number of files beside records that are gone, with some names."""
    count = len(faults.gone)
    named = ", ".join(faults.gone[:_MOST_NAMES])
    more = f" and {count - _MOST_NAMES:,} more" if count > _MOST_NAMES else ""
    return (
        f"{counted(count, 'file')} that records name {plural(count, 'is', 'are')} gone "
        f"({named}{more}): no test and no picture is made of them."
    )


def sentences(inventory: Inventory, faults: Faults) -> list[str]:
    """Return sentences on the number of records, and on records and files that do not count."""
    records = inventory.records
    methods = {inventory.selection.method_of(result) for result in records}
    tasks = {result.task for result in records}
    lines = [
        f"{counted(len(records), 'record')} of {counted(len(methods), 'method')} in "
        f"{counted(len(tasks), 'task')}."
    ]
    if count := len(inventory.selection.replaced_by):
        of = plural(
            count, "record of the same measurement is", "records of the same measurements are"
        )
        lines.append(f"{count:,} older {of} superseded by the newest and in no table.")
    if count := len(inventory.stale):
        what = plural(count, "record is", "records are")
        lines.append(f"{count:,} {what} stale: of a run that changed since; in no table.")
    if faults.gone:
        lines.append(gone_words(faults))
    for plan in inventory.plans:
        states = [run.state for run in plan.runs]
        counts = [f"{states.count(s)} {s}" for s in ("done", "failed", "to do") if s in states]
        lines.append(f"Suite {plan.suite}: {', '.join(counts) or 'no runs'}.")
    return lines


def _last(pair: tuple[Any, Any]) -> Any:
    return pair[1]


def _waiting(inventory: Inventory) -> dict[tuple[str, str], tuple[str, int, int]]:
    """Return, by method and task, the task's title and the numbers of failed runs and of runs to do."""
    runs = pd.DataFrame(
        [
            (run.method, run.task, run.title or run.task, run.state == "failed")
            for _, run in inventory.missing
        ],
        columns=["method", "task", "title", "failed"],
    )
    return {
        (method, task): (
            own["title"].iloc[-1],
            int(own["failed"].sum()),
            int((~own["failed"]).sum()),
        )
        for (method, task), own in runs.groupby(["method", "task"], sort=False)
    }


def _column(place: _Place, result: Record) -> Column:
    (_, task), data, metric = place
    number = result.metrics[metric]
    return Column(
        key="/".join((task, data, metric)),
        group=result.about.title.partition(":")[0],
        header=f"{data} {number.header}",
        numeric=True,
        higher_is_better=number.direction > 0 if number.direction else None,
    )


def _missing(waiting: tuple[str, int, int] | None) -> Cell:
    _, failed, to_do = waiting or ("", 0, 0)
    words = [f"{failed} failed"] * (failed > 0) + [f"{to_do} to do"] * (to_do > 0)
    return Cell(text="n/a", kind="missing", details=tuple(words))


def _measured(results: list[Record], metric: str, notes: Notes) -> Cell:
    number, is_alone = results[0].metrics[metric], len(results) == 1
    values = sorted(v for v in (result.values[metric] for result in results) if math.isfinite(v))
    text = "–"
    if values:
        range_text = number.interval_text((values[0], values[-1]))
        text = number.text(values[0]) if is_alone else range_text
    details = [] if is_alone else [f"{len(results):,} records"]
    if is_alone and number.interval:
        details = [number.interval_text(number.interval)]
    return Cell(
        text=text,
        value=values[-1] if values else None,
        kind="measured",
        details=tuple(details),
        records=tuple(result.id for result in results),
        mark=",".join(map(notes.mark, assumed_words(results))),
    )


def _of_words(
    name: str, title: str, caption: str, headers: Iterable[str], rows: Iterable[tuple[str, ...]]
) -> Table:
    """Return a table of words; the first word of each row is its label."""
    return Table(
        name=name,
        title=title,
        caption=caption,
        columns=tuple(Column(key=one, group="", header=one, numeric=False) for one in headers),
        rows=tuple(
            Row(
                label=label,
                kind="measured",
                cells=tuple(Cell(text=text, kind="words") for text in texts),
            )
            for label, *texts in rows
        ),
        footnotes=(),
    )
