"""Ablations: pre-trainings that differ in one setting, while everything else about them is equal."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from micl_bench.records.result import Result
from micl_bench.records.weights import Stage
from micl_bench.report.frame.lineage import pretraining_stage
from micl_bench.report.frame.naming import method_rank
from micl_bench.report.frame.protocols import NOT_SET, flat_settings
from micl_bench.report.tables.headings import slug
from micl_bench.report.tables.measured import Measured, Rules, measured_table
from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.report.tables.specs._spec import Axis, TableSpec
from micl_bench.runtime.files import digest_json


class Study(NamedTuple):
    """Pre-trainings that differ in one setting alone."""

    rest: str
    """Digest of all other settings."""
    members: tuple[str, ...]
    """The `training_key` of each."""


def ablation_tables(
    name: str, spec: TableSpec, world: str, scores: pd.DataFrame, measured: Measured
) -> list[Table]:
    """Return one table for each axis along which two values or more were measured.

    Args:
        scores: rows of the frame that the spec's columns show of the world.
    """
    trainings = trainings_of(scores["result"])
    studies = {axis: studies_along(axis, trainings) for axis in spec.axes}
    seats = Counter(key for found in studies.values() for study in found for key in study.members)
    tables = []
    for axis, found in studies.items():
        if found:
            bases = {_baseline(axis, study, trainings, seats) for study in found}
            study_of = {key: study.rest for study in found for key in study.members}
            own = scores[[key_of(one) in study_of for one in scores["result"]]]
            whole = f"{name}-{slug(axis.header)}" + (f"-{slug(world)}" if world else "")
            title = f"{spec.title}: {axis.header}" + (f", {world}" if world else "")
            rules = _rules(axis, study_of, bases)
            table, lines = measured_table(whole, title, spec, own.copy(), measured, rules)
            values = [_value_of(axis, line.records[0]) for line in lines]
            tables.append(_with_axis(table, axis, values))
    return tables


def trainings_of(results: Iterable[Result]) -> dict[str, Stage]:
    """Return the pre-trainings behind some records, by `training_key`."""
    found = {training_key(one): one for one in map(pretraining_stage, results) if one}
    return dict(sorted(found.items()))


def training_key(stage: Stage) -> str:
    """Return a key that is equal for pre-trainings that differ in their seeds alone."""
    return f"{stage.method} {stage.fingerprint} {stage.data_digest}"


def key_of(result: Result) -> str:
    """Return the `training_key` of the pre-training behind a record; empty where there is none."""
    stage = pretraining_stage(result)
    return training_key(stage) if stage else ""


def studies_along(axis: Axis, trainings: dict[str, Stage]) -> list[Study]:
    """Return the groups of trainings that differ along the axis alone."""
    rests = {
        key: digest_json([stage.method, stage.data_digest, _without(axis, stage)])
        for key, stage in trainings.items()
    }
    alike = {
        rest: tuple(key for key in rests if rests[key] == rest) for rest in set(rests.values())
    }
    return [Study(rest, keys) for rest, keys in sorted(alike.items()) if len(keys) > 1]


def _without(axis: Axis, stage: Stage) -> dict[str, str]:
    return {name: text for name, text in flat_settings(stage.settings).items() if name != axis.path}


def value_along(axis: Axis, stage: Stage) -> Any:
    """Return the setting of a training; None where it has none."""
    value: Any = stage.settings
    for name in axis.path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def order_of(value: Any) -> tuple[bool, float, str]:
    """Return a sort key of values along an axis: numbers first."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, str(value))


def _value_of(axis: Axis, result: Result) -> Any:
    stage = pretraining_stage(result)
    return value_along(axis, stage) if stage else None


def _baseline(
    axis: Axis, study: Study, trainings: dict[str, Stage], seats: Counter[str]
) -> str | None:
    """Return the training that most studies share, or else the one with the authors' value, or None."""
    most = max(seats[key] for key in study.members)
    shared = [key for key in study.members if seats[key] == most]
    if len(shared) == 1:
        return shared[0]
    default = [k for k in study.members if value_along(axis, trainings[k]) == axis.default]
    return default[0] if axis.default is not None and default else None


def _rules(axis: Axis, study_of: dict[str, str], bases: set[str | None]) -> Rules:
    def baseline(result: Result) -> str:
        """Return the row's name as a baseline, such as `mask ratio 0.9`; empty where it is none."""
        text = _value_text(_value_of(axis, result))
        return f"{axis.header} {text}" if key_of(result) in bases else ""

    def study(result: Result) -> str:
        return study_of[key_of(result)]

    def order(result: Result) -> tuple[Any, ...]:
        value = order_of(_value_of(axis, result))
        return (method_rank(result.method), result.arch, study(result), value)

    return Rules(study=study, baselines=[baseline], order=order)


def _with_axis(table: Table, axis: Axis, values: list[Any]) -> Table:
    """Return the table with the setting of each row in front."""
    column = Column(
        key=axis.path,
        group="",
        header=axis.header,
        numeric=all(isinstance(value, int | float) for value in values),
    )
    rows = [
        dataclasses.replace(row, cells=(_cell(value, row), *row.cells))
        for value, row in zip(values, table.rows, strict=True)
    ]
    return dataclasses.replace(table, columns=(column, *table.columns), rows=tuple(rows))


def _cell(value: Any, row: Row) -> Cell:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return Cell(text=_value_text(value), kind="words")
    records = tuple(dict.fromkeys(record for cell in row.cells for record in cell.records))
    return Cell(text=_value_text(value), value=float(value), kind="measured", records=records)


def _value_text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.4g}"
    return NOT_SET if value is None else str(value)
