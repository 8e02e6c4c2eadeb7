"""The common part of segmentation and detection: a run of an mmengine config becomes a record."""

import dataclasses
from typing import Any

from micl_bench.data.embedded import embedded_name
from micl_bench.records.provenance import Measurement
from micl_bench.records.result import DataSet, Result
from micl_bench.runtime.distributed import rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.tasks import Task
from micl_bench.tasks._request import Request


def run_config(
    request: Request, task: Task, *, label: str, library: str, splits: tuple[str, str]
) -> list[Result]:
    """Train and evaluate the request's config; returns its one record.

    Args:
        library: `mmseg` or `mmdet`, whose configs the task runs.
        splits: of the images that are trained on and evaluated, as the data set calls them.

    Raises:
        InputError: no config, or a bad one, bad data or checkpoint; OpenMMLab not installed.
        Stopped: a signal asked for it, and the state is saved; the same request goes on.
    """
    from micl_bench.openmmlab import run

    if request.recipe is None:
        raise InputError(
            f"{task.name} needs an mmengine config: --recipe NAME or FILE (micl-bench list recipes)"
        )
    if not isinstance(request.checkpoint, str):
        raise InputError(
            f"{task.name} reads the weights from a file: save the module, and give that"
        )
    measurement = Measurement(command=request.command)
    outcome = run(
        request.recipe,
        checkpoint=request.checkpoint,
        data=request.data,
        work_dir=request.out,
        overrides=request.overrides,
        label=label,
        arch=request.arch,
        layout=request.layout,
        branch=request.branch,
        pixels=request.pixels,
        strict=request.strict,
        statement=request.statement,
        library=library,
        measurement=measurement,
    )
    subject, settings = outcome.subject, outcome.settings
    name, stands_for = embedded_name(request.data) or (request.data.resolve().name, "")
    head = _head(subject.recipe["model"])
    train, evaluated = (
        DataSet(name=name, split=split, stands_for=stands_for, **about)
        for split, about in zip(splits, outcome.data.values(), strict=True)
    )
    kept = {label: outcome.predictions, "evidence": outcome.evidence}
    left = {**kept, "log": outcome.log, **({"model": outcome.model} if outcome.model else {})}
    result = measurement.result(
        task,
        dataclasses.replace(subject, method=request.method or subject.method),
        outcome.metrics,
        settings={"head": head, **settings},
        intervals=outcome.intervals,
        protocol=f"{head}, {settings['steps']} steps of {settings['batch']} images",
        data=evaluated,
        train=train,
        details=outcome.details,
        artifacts={name: path.relative_to(request.out).as_posix() for name, path in left.items()},
        # Other processes write no record.
        evidence=outcome.evidence_kind,
        digests={name: digest_file(path) for name, path in kept.items() if rank() == 0},
        seconds=outcome.spent.seconds,
        device_seconds=outcome.spent.device_seconds,
    )
    return [result]


_HEADS = {
    "UPerHead": "UperNet",
    "FCNHead": "FCN",
    "MaskRCNN": "Mask R-CNN",
    "CascadeRCNN": "Cascade R-CNN",
    "FasterRCNN": "Faster R-CNN",
}


def _head(model: dict[str, Any]) -> str:
    """The head on the backbone, and whether it predicts at several scales, in words of papers."""
    head = model.get("decode_head") or model
    kind = str((head[-1] if isinstance(head, list) else head).get("type")).rpartition(".")[2]
    scales = "several scales" if str(model.get("type")).startswith("MultiScale") else "single scale"
    return f"{_HEADS.get(kind, kind)}, {scales}"
