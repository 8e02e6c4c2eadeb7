"""Published numbers as rows of their own, each with its source and its protocol in a footnote."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from micl_bench.records.names import arch_label, same_method
from micl_bench.records.published import Reference
from micl_bench.report.frame.naming import OURS, method_rank
from micl_bench.report.tables.measured_cell import Notes
from micl_bench.report.tables.model import Cell, Row
from micl_bench.report.tables.pretraining_columns import COSTS, MISSING, is_cost_of, published_fact
from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn

_COST = "pretrain_cost"
_SEVERAL_SCALES = "mIoU_ms_flip"
_UNITS = {"wall_days": "days", "tpu_days": "TPU-days", "speedup_vs_MAE": "times MAE's speed"}

Columns = Sequence[FactColumn | ScoreColumn]


class _Subject(NamedTuple):
    """The network and the source of a published row."""

    method: str
    arch: str
    resolution: int | None
    pretrain_data: str
    pretrain_epochs: float | None
    source: str


def published_rows(
    columns: Columns,
    references: Sequence[Reference],
    notes: Notes,
    *,
    archs: Collection[str] | None = None,
) -> list[Row]:
    """Return a row for each network, source and protocol that has a number in one of the columns.

    Args:
        archs: labels of the networks whose rows are wanted; None for all. Our own method's rows
            come in any case, with `n/a` where nothing was published.
    """
    kinds = _kinds(columns)
    shown = []
    for one in references:
        kind, is_ours = kinds.get((one.task, one.metric), ""), same_method(one.method) == OURS
        if is_ours or (kind and (archs is None or arch_label(one.arch) in archs)):
            protocol = (one.task, one.protocol, one.metric == _SEVERAL_SCALES) if kind else ()
            subject = _Subject(*(getattr(one, name) for name in _Subject._fields))
            shown.append((one, subject, kind, (subject, kind, protocol)))
    frame = pd.DataFrame(shown, columns=["reference", "subject", "kind", "protocol"], dtype=object)
    # Of each kind of number one protocol in a row, in the ledger's order.
    frame["turn"] = pd.factorize(frame["protocol"])[0]
    frame["row"] = frame.groupby(["subject", "kind"], sort=False)["turn"].rank("dense")
    found = {
        place: own.loc[own["kind"] != "", "reference"].tolist()
        for place, own in frame.groupby(["subject", "row"], sort=False)
    }
    first = frame.groupby("subject", sort=False)["reference"].first()
    return [
        _row(subject, first[subject], found[subject, turn], columns, references, notes)
        for subject, turn in sorted(found, key=lambda place: (*_order(place[0]), place[1]))
    ]


def _kinds(columns: Columns) -> dict[tuple[str, str], str]:
    """Return, by task and metric of the ledger, a key that is equal for numbers of the same cells."""
    kinds: dict[tuple[str, str], str] = {}
    for column in columns:
        if isinstance(column, ScoreColumn):
            kind = " ".join(sorted({task for task, _ in column.published}))
            kinds |= dict.fromkeys(column.published, kind)
        elif column.fact == "other_cost":
            kinds |= {(_COST, metric): _COST for names in COSTS.values() for metric in names}
    return kinds


def _order(subject: _Subject) -> tuple[object, ...]:
    return (
        method_rank(same_method(subject.method)),
        subject.method,
        arch_label(subject.arch),
        subject.resolution or 0,
        subject.pretrain_epochs or 0,
        subject.pretrain_data,
        subject.source,
    )


def _row(
    subject: _Subject,
    any_of_it: Reference,
    numbers: list[Reference],
    columns: Columns,
    references: Sequence[Reference],
    notes: Notes,
) -> Row:
    cells = []
    for column in columns:
        if isinstance(column, ScoreColumn):
            own = [n for n in numbers if (n.task, n.metric) in column.published]
            cells.append(_number(own, notes))
        elif column.fact in COSTS:
            own = [n for n in numbers if n.metric in COSTS[column.fact]]
            cells.append(_number(own or _cost(any_of_it, column, references), notes))
        else:
            cells.append(published_fact(column.fact, any_of_it))
    method = same_method(subject.method)
    name = subject.method if method == subject.method else f"{method} (as {subject.method})"
    return Row(label=name, kind="published", cells=tuple(cells), source=subject.source)


def _cost(
    any_of_it: Reference, column: FactColumn, references: Iterable[Reference]
) -> list[Reference]:
    """Return the cost of the same pre-training from any source, where exactly one was published."""
    found = [
        cost
        for cost in references
        if cost.task == _COST and cost.metric in COSTS[column.fact] and is_cost_of(cost, any_of_it)
    ]
    return found if len(found) == 1 else []


def _number(numbers: list[Reference], notes: Notes) -> Cell:
    if not numbers:
        return MISSING
    number = numbers[0]
    unit, words = _UNITS.get(number.metric, ""), number.protocol
    if number.metric == _SEVERAL_SCALES:
        words += " (several scales, mirrored)"
    if number.task == _COST:
        words += f" ({number.source})"
    return Cell(
        text=f"{number.shown} {unit}" if unit else number.shown,
        value=None if unit else number.value,
        kind="published",
        records=(number.id,),
        mark=notes.mark(words),
    )
