"""What segmentation and detection share: a run of an mmengine config becomes a record."""

from pathlib import Path
from typing import Any

from micl_bench.data.embedded.parts import embedded_name
from micl_bench.distributed import world_size
from micl_bench.errors import InputError
from micl_bench.files import digest_listing
from micl_bench.provenance import Measurement
from micl_bench.record import DataSet, Result, visible_path
from micl_bench.tasks._request import Request


def run_config(
    request: Request, *, task: str, label: str, protocol: str, split: str, files: tuple[str, ...]
) -> list[Result]:
    """Train and evaluate the request's config.

    Args:
        split: of the evaluated images, as the data set calls it.
        files: patterns below the data folder that hold the evaluated images and their truth.

    Raises:
        InputError: no config, or a bad one, bad data or checkpoint; OpenMMLab not installed.
    """
    from micl_bench.openmmlab import run

    if world_size() > 1:
        raise InputError(
            f"{task} runs as one process, not as {world_size()}; start it without torchrun"
        )
    if request.recipe is None:
        raise InputError(f"{task} needs an mmengine config: --recipe downstream/<config>.py")
    measurement = Measurement(command=request.command)
    outcome = run(
        request.recipe,
        checkpoint=request.checkpoint,
        data=request.data,
        work_dir=request.out,
        overrides=request.overrides,
        label=label,
    )
    name, stands_for = embedded_name(request.data) or (request.data.resolve().name, "")
    evaluated = [path for pattern in files for path in request.data.glob(pattern)]
    result = measurement.result(
        task=task,
        protocol=f"{protocol}, {outcome.summary}",
        method=request.method or outcome.method,
        arch=outcome.arch,
        metrics=outcome.metrics,
        data=DataSet(
            name=name,
            split=split,
            images=outcome.images,
            digest=digest_listing(request.data, evaluated),
            stands_for=stands_for,
        ),
        checkpoint=outcome.checkpoint,
        recipe=outcome.config,
        seed=outcome.seed,
        settings={
            "task": task,
            "head": protocol,
            "config": what_counts(outcome.config, visible_path(request.data)),
        },
        artifacts={
            "predictions": _relative(outcome.predictions, request.out),
            "log": _relative(outcome.log, request.out),
        },
    )
    return [result]


# Who trains, from which draw, where, and with how many helpers: not what is computed.
_APART = {"checkpoint", "seed", "randomness", "work_dir", "num_workers", "persistent_workers"}


def what_counts(node: Any, data: str) -> Any:
    """The part of a config that moves the number, with the data folder's own path taken out."""
    if isinstance(node, dict):
        return {key: what_counts(value, data) for key, value in node.items() if key not in _APART}
    if isinstance(node, list):
        return [what_counts(value, data) for value in node]
    if isinstance(node, str) and (node == data or node.startswith(f"{data}/")):
        return f"<data>{node[len(data) :]}"
    return node


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
