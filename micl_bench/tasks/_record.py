"""The one builder of a task's records: metrics, intervals and files from what was measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from micl_bench.records.declared import Task
from micl_bench.records.evidence.evidence import Evidence, write_named_arrays
from micl_bench.records.provenance import Measurement, Subject
from micl_bench.records.result import DataSet, Result, name_part
from micl_bench.runtime.distributed import rank
from micl_bench.runtime.files import digest_file


def record(
    task: Task,
    subject: Subject,
    metrics: Mapping[str, float],
    *,
    measurement: Measurement,
    out: Path,
    data: DataSet,
    evidence: Evidence | None = None,
    intervals: Mapping[str, Sequence[float]] = MappingProxyType({}),
    undefined: Mapping[str, str] = MappingProxyType({}),
    artifacts: Mapping[str, str] = MappingProxyType({}),
    **fields: Any,
) -> Result:
    """The record of one measurement, its evidence written beside it.

    Args:
        metrics: by name; those that the evidence gives need not be among them.
        out: the folder of the record.
        evidence: what is kept of each image: its metrics that the task declares, with their intervals,
            are the record's where `metrics` does not give them.
        intervals: both ends at 95 %, of `metrics`.
        artifacts: other files beside the record, by name.
        fields: as `Measurement.result`.

    Raises:
        InputError: a metric that the task does not declare.
    """
    if evidence is not None:
        made = {name: value for name, value in evidence.metrics().items() if task.declares(name)}
        intervals = evidence.intervals(seed=subject.seed) | {**intervals}
        undefined = dict.fromkeys(made, evidence.undefined) | {**undefined}
        metrics = made | {**metrics}
    artifacts, digests = dict(artifacts), dict[str, str](fields.pop("digests", {}))
    if evidence is not None:
        name = f"{evidence.kind}-{task.name}-{name_part(data.name)}"
        if rank() == 0:
            path = write_named_arrays(out, name, evidence.arrays())
            digests["evidence"] = digest_file(path)
            name = path.name
        artifacts["evidence"] = name
    return measurement.result(
        task,
        subject,
        metrics,
        intervals=intervals,
        undefined=undefined,
        data=data,
        artifacts=artifacts,
        evidence=evidence.kind if evidence else "",
        digests=digests,
        **fields,
    )
