"""Published numbers as rows of their own, each with its source and its protocol in a footnote."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from micl_bench.records.names import arch_label, same_method
from micl_bench.records.published import Reference
from micl_bench.report.frame.metrics import OURS, method_rank
from micl_bench.report.tables.measured_cell import Notes
from micl_bench.report.tables.model import Cell, Row
from micl_bench.report.tables.pretraining_columns import COSTS, MISSING, published_fact
from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn

_COST = "pretrain_cost"
_SEVERAL_SCALES = "mIoU_ms_flip"
_UNITS = {"wall_days": "days", "tpu_days": "TPU-days", "speedup_vs_MAE": "times MAE's speed"}


class _Subject(NamedTuple):
    """What a published row is about."""

    method: str
    arch: str
    resolution: int | None
    pretrain_data: str
    pretrain_epochs: float | None
    source: str


def published_rows(
    columns: Sequence[FactColumn | ScoreColumn],
    references: list[Reference],
    notes: Notes,
    *,
    archs: frozenset[str] | None = None,
) -> list[Row]:
    """A row for each network, source and protocol that has a number in one of the columns.

    Args:
        archs: labels of the networks that rows are wanted of; None for all. Our own method's rows
            come in any case, with `n/a` where nothing was published.
    """
    costs = [reference for reference in references if reference.task == _COST]
    scores = [column for column in columns if isinstance(column, ScoreColumn)]
    wanted = {key for column in scores for key in column.published}
    is_cost = any(isinstance(c, FactColumn) and c.fact == "other_cost" for c in columns)
    found: dict[_Subject, list[Reference]] = {}
    for reference in references:
        ours = same_method(reference.method) == OURS
        if archs is not None and not ours and arch_label(reference.arch) not in archs:
            continue
        has = (reference.task, reference.metric) in wanted or (is_cost and reference.task == _COST)
        if has or ours:
            found.setdefault(_subject(reference), []).append(reference)
    kinds = _kinds(scores) | dict.fromkeys(_costs(is_cost), _COST)
    rows = []
    for subject in sorted(found, key=_order):
        for numbers in _by_protocol(found[subject], kinds):
            rows.append(_row(subject, found[subject][0], numbers, columns, costs, notes))
    return rows


def _kinds(columns: list[ScoreColumn]) -> dict[tuple[str, str], str]:
    """By task and metric of the ledger: what stands in the same cells."""
    kinds: dict[tuple[str, str], str] = {}
    for column in columns:
        kind = " ".join(sorted({task for task, _ in column.published}))
        kinds |= dict.fromkeys(column.published, kind)
    return kinds


def _costs(wanted: bool) -> set[tuple[str, str]]:
    metrics = [metric for names in COSTS.values() for metric in names] if wanted else []
    return {(_COST, metric) for metric in metrics}


def _subject(reference: Reference) -> _Subject:
    return _Subject(*(getattr(reference, name) for name in _Subject._fields))


def _order(subject: _Subject) -> tuple[object, ...]:
    method = same_method(subject.method)
    return (
        method_rank(method),
        subject.method,
        arch_label(subject.arch),
        subject.resolution or 0,
        subject.pretrain_epochs or 0,
        subject.pretrain_data,
        subject.source,
    )


def _by_protocol(
    numbers: list[Reference], kinds: dict[tuple[str, str], str]
) -> list[list[Reference]]:
    """A subject's numbers by row: of each kind one protocol a row."""
    by_kind: dict[str, dict[tuple[str, str, bool], list[Reference]]] = {}
    for number in numbers:
        if kind := kinds.get((number.task, number.metric)):
            protocol = (number.task, number.protocol, number.metric == _SEVERAL_SCALES)
            by_kind.setdefault(kind, {}).setdefault(protocol, []).append(number)
    stacks = [list(protocols.values()) for protocols in by_kind.values()]
    height = max(map(len, stacks), default=1)
    return [
        [number for stack in stacks if row < len(stack) for number in stack[row]]
        for row in range(height)
    ]


def _row(
    subject: _Subject,
    any_of_it: Reference,
    numbers: list[Reference],
    columns: Sequence[FactColumn | ScoreColumn],
    costs: list[Reference],
    notes: Notes,
) -> Row:
    cells = []
    for column in columns:
        if isinstance(column, ScoreColumn):
            own = [n for n in numbers if (n.task, n.metric) in column.published]
            cells.append(_number(own, notes))
        elif column.fact in COSTS:
            own = [n for n in numbers if n.metric in COSTS[column.fact]]
            cells.append(_number(own or _cost(subject, column, costs), notes))
        else:
            cells.append(published_fact(column.fact, any_of_it))
    method = same_method(subject.method)
    name = subject.method if method == subject.method else f"{method} (as {subject.method})"
    return Row(label=name, kind="published", cells=tuple(cells), source=subject.source)


def _cost(subject: _Subject, column: FactColumn, costs: Iterable[Reference]) -> list[Reference]:
    """The cost of the same pre-training from any source, where exactly one was published."""
    found = [
        cost
        for cost in costs
        if cost.metric in COSTS[column.fact]
        # Unknown lengths are not equal ones, unless one text speaks of both.
        and (subject.pretrain_epochs is not None or cost.source == subject.source)
        and (cost.method, cost.arch, cost.pretrain_data, cost.pretrain_epochs)
        == (subject.method, subject.arch, subject.pretrain_data, subject.pretrain_epochs)
    ]
    return found if len(found) == 1 else []


def _number(numbers: list[Reference], notes: Notes) -> Cell:
    if not numbers:
        return MISSING
    number = numbers[0]
    unit = _UNITS.get(number.metric, "")
    words = number.protocol
    if number.metric == _SEVERAL_SCALES:
        words += " (several scales, mirrored)"
    if number.task == _COST:
        words += f" ({number.source})"
    text = number.text or f"{number.value:g}"
    return Cell(
        text=f"{text} {unit}" if unit else text,
        value=None if unit else number.value,
        kind="published",
        records=(number.id,),
        mark=notes.mark(words),
    )
