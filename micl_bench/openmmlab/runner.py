"""Train and evaluate one mmsegmentation or mmdetection config with a checkpoint's ViT.

The libraries' own runner, data sets, heads and metrics do the work. What is added: checks before
anything starts, a quiet terminal with one progress bar, the same result for the same seed, and no
trace in the process afterwards, so that runs of both libraries can follow one another.
"""

import dataclasses
import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from micl_bench.backbone import Arch
from micl_bench.checkpoints import load_checkpoint
from micl_bench.errors import InputError
from micl_bench.log import Progress
from micl_bench.openmmlab.configs import as_json, resolve
from micl_bench.openmmlab.predictions import write_predictions
from micl_bench.openmmlab.watch import Watch
from micl_bench.record import CheckpointInfo

_NUM_SAMPLES = 6
# mmsegmentation's metrics keep their names; COCO's are fractions, and -1 where nothing is measured.
_PERCENTAGES = ("mIoU", "mAcc", "aAcc")
_FRACTIONS = {
    f"coco/{kind}_mAP{library}": f"{name}_AP{ours}"
    for kind, name in (("bbox", "box"), ("segm", "mask"))
    for library, ours in (("", ""), ("_50", "50"), ("_75", "75"))
}
_runs = itertools.count()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run measured, and what it needs to be traced."""

    metrics: dict[str, float]
    """Percentages: `mIoU`, `mAcc`, `aAcc`, or `box_AP`, `mask_AP` and both at IoU 0.5 and 0.75."""
    arch: str
    method: str
    checkpoint: CheckpointInfo
    config: dict[str, Any]
    """The config as it ran, overrides applied, as plain values; the same for every `work_dir`."""
    images: int
    """Evaluated images."""
    classes: tuple[str, ...]
    seed: int
    summary: str
    """How long it trained, for a table's caption: `240 steps of 8 images`."""
    predictions: Path
    """`.npz` of the first images with truth and predictions."""
    log: Path
    """Everything the libraries printed."""


def run(
    config: Path,
    *,
    checkpoint: str,
    data: Path,
    work_dir: Path,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    label: str | None = None,
) -> Outcome:
    """Train on the config's training split, evaluate on its validation split.

    Args:
        config: mmengine config file with `default_scope` mmseg or mmdet.
        checkpoint: a file of any supported layout, `timm:NAME` or `random:ARCH`.
        data: folder that takes the place of the config's `data_root`.
        work_dir: for log and predictions; made if missing.
        seed: of weights that are drawn and of the order of images; None for the config's own.
        overrides: `a.b=value`; the key must be there already.
        label: in front of the progress bar; the config's name if None.

    Raises:
        InputError: bad config, override, checkpoint or data, before training starts; or a loss that
            is no number.
    """
    # Everything a user can get wrong is looked at before the first file is written.
    with _quiet(io.StringIO()):
        resolved = resolve(config, checkpoint=checkpoint, data=data, seed=seed, overrides=overrides)
        seed = int(resolved.randomness.seed)
        loaded = load_checkpoint(checkpoint, seed=seed)
        _check_width(resolved, loaded.arch)
    work_dir.mkdir(parents=True, exist_ok=True)
    log_path, terminal = work_dir / "openmmlab.log", sys.stderr
    with log_path.open("w", encoding="utf-8") as log, _no_trace():
        with _quiet(log):
            runner = _build(resolved, work_dir)
            total = runner.train_loop.max_iters + len(runner.val_loop.dataloader)
        with Progress(label or config.stem, total=total) as progress, _quiet(log):
            watch = Watch(progress, terminal, num_samples=_NUM_SAMPLES)
            runner.register_hook(watch)
            runner.train()
        dataset = runner.val_loop.dataloader.dataset
        classes = tuple(dataset.metainfo["classes"])
    predictions = work_dir / "predictions.npz"
    write_predictions(predictions, watch.samples, classes)
    return Outcome(
        metrics=_our_metrics(watch.metrics, detects=resolved.default_scope == "mmdet"),
        arch=loaded.arch.name,
        method=loaded.method,
        checkpoint=loaded.info,
        config=as_json(resolved),
        images=len(dataset),
        classes=classes,
        seed=seed,
        summary=f"{runner.max_iters} steps of {resolved.train_dataloader.batch_size} images",
        predictions=predictions,
        log=log_path,
    )


def _check_width(config: Config, arch: Arch) -> None:
    """Necks and heads are built for one width; another would fail in the first step."""
    for name in ("neck", "decode_head", "auxiliary_head"):
        wanted = (config.model.get(name) or {}).get("in_channels", arch.width)
        wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
        if any(channels != arch.width for channels in wanted):
            raise InputError(
                f"model.{name}.in_channels is {list(wanted)}, but {arch.name} has width {arch.width}; "
                f"--set model.{name}.in_channels=... to it"
            )


def _build(config: Config, work_dir: Path) -> Runner:
    config = config.copy()
    config.work_dir = str(work_dir)
    # mmengine keys its global state by this name, and its own has seconds as the finest part.
    config.experiment_name = f"micl-bench-{os.getpid()}-{next(_runs)}"
    try:
        return Runner.from_cfg(config)
    # A config is a program of the user's: whatever its parts refuse is about the config.
    except Exception as error:
        raise InputError(f"the config cannot be built: {' '.join(str(error).split())}") from error


def _our_metrics(metrics: dict[str, float], *, detects: bool) -> dict[str, float]:
    if detects and not metrics:
        # CocoMetric says nothing where nothing was detected; precision without recall is 0.
        return dict.fromkeys(_FRACTIONS.values(), 0.0)
    # The metrics round to two digits of a percentage in fp32, to three of a fraction; rounding
    # again drops the digits that conversion brings.
    ours = {name: round(metrics[name], 2) for name in _PERCENTAGES if name in metrics}
    for name, value in metrics.items():
        if name in _FRACTIONS and value >= 0:
            ours[_FRACTIONS[name]] = round(100 * value, 1)
    if not ours:
        raise InputError(
            f"the config's evaluator gives {', '.join(metrics) or 'nothing'}; "
            "IoUMetric or CocoMetric is needed"
        )
    return ours


@contextmanager
def _quiet(log: TextIO) -> Iterator[None]:
    """Send all that the libraries print, log and warn to a file."""
    with redirect_stdout(log), redirect_stderr(log):
        yield


@contextmanager
def _no_trace() -> Iterator[None]:
    """Put back what mmengine changes for the whole process: its instances and torch's switches."""
    with ExitStack() as stack:
        for kind in (DefaultScope, MMLogger, MessageHub, Visualizer):
            stack.callback(setattr, kind, "_instance_dict", kind._instance_dict.copy())
        cudnn = torch.backends.cudnn
        stack.callback(setattr, cudnn, "deterministic", cudnn.deterministic)
        stack.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
        stack.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        stack.callback(_close_logs, set(MMLogger._instance_dict))
        yield


def _close_logs(kept: set[str]) -> None:
    """Close the log files of the loggers that the run made."""
    for name in MMLogger._instance_dict.keys() - kept:
        for handler in MMLogger._instance_dict[name].handlers:
            handler.close()
