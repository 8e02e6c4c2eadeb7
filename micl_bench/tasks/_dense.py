"""What segmentation and detection share: a run of an mmengine config becomes a record."""

from pathlib import Path

from micl_bench.data.embedded.parts import embedded_name
from micl_bench.errors import InputError
from micl_bench.files import digest_listing
from micl_bench.provenance import Measurement
from micl_bench.record import DataSet, Result
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
        settings={"task": task, "protocol": protocol, "config": outcome.config},
        artifacts={
            "predictions": _relative(outcome.predictions, request.out),
            "log": _relative(outcome.log, request.out),
        },
    )
    return [result]


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
