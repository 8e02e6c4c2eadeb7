"""What segmentation and detection share: a run of an mmengine config becomes a record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from micl_bench.data.embedded.manifest import embedded_name
from micl_bench.records.provenance import Measurement, Subject
from micl_bench.records.result import DataSet, Result
from micl_bench.runtime.distributed import rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.tasks import Task
from micl_bench.tasks._request import Request


def run_config(
    request: Request,
    task: Task,
    *,
    label: str,
    library: str,
    splits: tuple[str, str],
    needed: Sequence[str],
) -> list[Result]:
    """Train and evaluate the request's config.

    Args:
        library: `mmseg` or `mmdet`, whose configs the task runs.
        splits: of the images that are trained on and evaluated, as the data set calls them.
        needed: folders and files that the data folder must have.

    Raises:
        InputError: no config, or a bad one, bad data or checkpoint; OpenMMLab not installed.
        Stopped: a signal asked for it, and the state is saved; the same request goes on.
    """
    from micl_bench.openmmlab import run
    from micl_bench.openmmlab.data_digests import LOADERS

    if request.recipe is None:
        raise InputError(
            f"{task.name} needs an mmengine config: --recipe NAME or FILE (micl-bench list recipes)"
        )
    if not isinstance(request.checkpoint, str):
        raise InputError(
            f"{task.name} reads the weights from a file: save the module, and give that"
        )
    _require_layout(request.data, label, needed)
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
    name, stands_for = embedded_name(request.data) or (request.data.resolve().name, "")
    head = _head(outcome.config["model"])
    train, evaluated = (
        DataSet(
            name=name,
            split=split,
            images=images,
            digest=outcome.data_digests[loader],
            stands_for=stands_for,
            left_out=outcome.left_out.get(loader, ""),
        )
        for split, images, loader in zip(
            splits, (outcome.train_images, outcome.images), LOADERS, strict=True
        )
    )
    kept = {label: outcome.predictions, "evidence": outcome.evidence}
    left = {**kept, "log": outcome.log, **({"model": outcome.model} if outcome.model else {})}
    subject = Subject(
        method=request.method or outcome.method,
        arch=outcome.arch,
        checkpoint=outcome.checkpoint,
        recipe=outcome.config,
        seed=outcome.seed,
    )
    result = measurement.result(
        task,
        subject,
        outcome.metrics,
        settings={"head": head, **outcome.settings},
        intervals=outcome.intervals,
        protocol=f"{head}, {outcome.summary}",
        data=evaluated,
        train=train,
        details={
            "processes": outcome.processes,
            "images_a_pass": outcome.images_a_pass,
            # What a model would have that makes no error.
            "truth": outcome.truth,
        },
        artifacts={name: path.relative_to(request.out).as_posix() for name, path in left.items()},
        # Of other processes no record is written.
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
    """What stands on the backbone, and at how many scales it predicts, in words of papers."""
    head = model.get("decode_head") or model
    kind = str((head[-1] if isinstance(head, list) else head).get("type")).rpartition(".")[2]
    scales = "several scales" if str(model.get("type")).startswith("MultiScale") else "single scale"
    return f"{_HEADS.get(kind, kind)}, {scales}"


def _require_layout(folder: Path, label: str, needed: Sequence[str]) -> None:
    """Refuse a folder that is laid out in another way, with what it lacks and where that may be."""
    if not folder.is_dir():
        raise InputError(f"no data folder at {folder}")
    missing = [name for name in needed if not (folder / name).exists()]
    if not missing:
        return
    inside = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    fits = [child for child in inside if all((child / name).exists() for name in needed)]
    names = ", ".join(child.name for child in inside[:5]) + (", ..." if inside[5:] else "")
    fix = f"{fits[0]} has it: give that as --data" if fits else f"it holds {names or 'nothing'}"
    raise InputError(
        f"{folder} is not laid out for {label}: no {' and no '.join(missing)} in it (needed: "
        f"{', '.join(needed)}); {fix}"
    )
