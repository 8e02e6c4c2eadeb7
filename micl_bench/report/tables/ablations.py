"""Ablations: pre-trainings that differ in one setting, everything else about them being equal."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from micl_bench.records.result import Result, Stage
from micl_bench.report.frame.lineage import pretraining_stage
from micl_bench.report.frame.metrics import method_rank
from micl_bench.report.frame.protocols import flat_settings
from micl_bench.report.tables.captions import caption_of, slug
from micl_bench.report.tables.columns import column_of, without_empty_columns
from micl_bench.report.tables.measured_cell import Notes
from micl_bench.report.tables.measured_rows import MeasuredRows
from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.report.tables.specs._spec import Axis, ScoreColumn, TableSpec
from micl_bench.runtime.files import digest_json

_NOT_SET = "not set"


class Study(NamedTuple):
    """Pre-trainings that differ in one setting alone."""

    rest: str
    """Digest of everything else."""
    members: tuple[str, ...]
    """Their fingerprints."""


def ablation_tables(name: str, spec: TableSpec, measured: MeasuredRows) -> list[Table]:
    """One table for each world and axis along which two values or more were measured."""
    tables = []
    for world in measured.worlds:
        results = [
            result
            for column in spec.columns
            if isinstance(column, ScoreColumn)
            for result in measured.of_column(column, world)
        ]
        trainings = trainings_of(results)
        studies = {axis.path: studies_along(axis, trainings) for axis in spec.axes}
        seats = Counter(f for found in studies.values() for s in found for f in s.members)
        for axis in spec.axes:
            if found := studies[axis.path]:
                bases = [_baseline(axis, study, trainings, seats) for study in found]
                tables.append(_table(name, spec, axis, found, bases, world, measured))
    return tables


def trainings_of(results: Iterable[Result]) -> dict[str, Stage]:
    """The pre-trainings behind some records, by `training_key`."""
    found = {}
    for result in results:
        if stage := pretraining_stage(result):
            found[training_key(stage)] = stage
    return dict(sorted(found.items()))


def training_key(stage: Stage) -> str:
    """Equal for pre-trainings that differ in their seeds alone."""
    return f"{stage.method} {stage.fingerprint} {stage.data_digest}"


def studies_along(axis: Axis, trainings: dict[str, Stage]) -> list[Study]:
    """Groups of trainings that differ along the axis alone."""
    groups: dict[str, list[str]] = {}
    for key, stage in trainings.items():
        rest = flat_settings(stage.settings)
        rest.pop(axis.path, None)
        groups.setdefault(digest_json([stage.method, stage.data_digest, rest]), []).append(key)
    return [Study(rest, tuple(keys)) for rest, keys in sorted(groups.items()) if len(keys) > 1]


def value_along(axis: Axis, stage: Stage) -> Any:
    """The setting of a training; None where it has none."""
    value: Any = stage.settings
    for name in axis.path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _baseline(
    axis: Axis, study: Study, trainings: dict[str, Stage], seats: Counter[str]
) -> str | None:
    """The training that most studies share, or else that with the authors' value; None for neither."""
    most = max(seats[key] for key in study.members)
    shared = [key for key in study.members if seats[key] == most]
    if len(shared) == 1:
        return shared[0]
    default = [k for k in study.members if value_along(axis, trainings[k]) == axis.default]
    return default[0] if axis.default is not None and default else None


def _table(
    name: str,
    spec: TableSpec,
    axis: Axis,
    studies: list[Study],
    bases: list[str | None],
    world: str,
    measured: MeasuredRows,
) -> Table:
    notes, study_of = Notes(), {key: s.rest for s in studies for key in s.members}
    found = measured.rows(
        spec,
        world,
        notes,
        wanted=lambda result: _of(result) in study_of,
        baseline=lambda result: _value_words(axis, result) if _of(result) in bases else "",
        study=lambda result: study_of[_of(result)],
    )
    assert found
    values = [value_along(axis, stage) for r in found.results if (stage := pretraining_stage(r))]
    places = [
        (method_rank(result.method), result.arch, study_of[_of(result)], _order(value))
        for result, value in zip(found.results, values, strict=True)
    ]
    rows = [(values[i], found.rows[i]) for i in sorted(range(len(values)), key=places.__getitem__)]
    column = Column(
        key=axis.path,
        group="",
        header=axis.header,
        numeric=all(isinstance(value, (int, float)) for value in values),
    )
    where = f"-{slug(world)}" if world else ""
    return without_empty_columns(
        Table(
            name=f"{name}-{slug(axis.header)}{where}",
            title=f"{spec.title}: {axis.header}" + (f", {world}" if world else ""),
            caption=caption_of(spec, found, found.rows),
            columns=(column, *map(column_of, spec.columns)),
            rows=tuple(
                dataclasses.replace(row, cells=(_cell(value, row), *row.cells))
                for value, row in rows
            ),
            footnotes=notes.footnotes,
            stands_for=found.stands_for,
        )
    )


def _value_words(axis: Axis, result: Result) -> str:
    """`mask ratio 0.9`."""
    stage = pretraining_stage(result)
    value = value_along(axis, stage) if stage else None
    return f"{axis.header} {_value_text(value)}"


def _of(result: Result) -> str:
    stage = pretraining_stage(result)
    return training_key(stage) if stage else ""


def _order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return (not number, float(value) if number else 0.0, str(value))


def _cell(value: Any, row: Row) -> Cell:
    records = tuple(dict.fromkeys(record for cell in row.cells for record in cell.records))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
        return Cell(text=_value_text(value), value=number, kind="measured", records=records)
    return Cell(text=_value_text(value), kind="words")


def _value_text(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.4g}"
    return _NOT_SET if value is None else str(value)
