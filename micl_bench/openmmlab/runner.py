"""Train and evaluate one mmsegmentation or mmdetection config with a checkpoint's ViT.

The libraries' own runner, data sets, heads and metrics do the work. Added to it are checks before
anything starts, a quiet terminal with one progress bar, the same result for the same seed, going on
where a run was cut, and no trace in the process afterwards, so that runs of both libraries can follow
one another. On other numbers of processes or passes a step has the same images; what the library's
losses average within a process's pass (Mask R-CNN's samples, `avg_non_ignore`) differs slightly.

It leaves in its folder:

openmmlab.log    everything the libraries printed
metrics.jsonl    a line per step: loss (the mean over processes), learning rate
recipe.json      the run's settings, compared before it goes on
states/          while the run is not finished: the newest two states, and that the data were checked
model.pt         the trained model, where the config asks for checkpoints
evidence.npz     the counts of each evaluated image
predictions.npz  the first images with truth and predictions
<config>.py      the config as mmengine writes it
"""

import dataclasses
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device

from micl_bench.checkpoints import Statement, load_checkpoint, stated
from micl_bench.openmmlab.agreement import MiCLSameWeights
from micl_bench.openmmlab.build import DenseRunner, built, checkpoint_hook, normalised_together
from micl_bench.openmmlab.configs import as_json, evaluates_each_image, fit_to, resolve
from micl_bench.openmmlab.data_checks import require_sound
from micl_bench.openmmlab.data_digests import LOADERS, data_digests
from micl_bench.openmmlab.evidence import Evidence, Measured
from micl_bench.openmmlab.isolation import blaming, no_trace, quiet
from micl_bench.openmmlab.memory import check_memory
from micl_bench.openmmlab.precision import MiCLPrecision
from micl_bench.openmmlab.predictions import write_predictions
from micl_bench.openmmlab.progress_hook import Watch
from micl_bench.openmmlab.resume import Identity, Keeper
from micl_bench.openmmlab.sampling import Batch, shared
from micl_bench.openmmlab.settings import what_counts
from micl_bench.records.provenance import Measurement, Subject, code_version
from micl_bench.records.result import visible_path
from micl_bench.runs.run import Spent
from micl_bench.runtime.distributed import from_first, rank
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.log import Progress, say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The measurements of one run, and where they come from; the first process writes the files."""

    metrics: dict[str, float]
    """Percentages: `mIoU`, `mAcc`, `aAcc`, or `box_AP`, `mask_AP` and both at IoU 0.5 and 0.75."""
    intervals: dict[str, list[float]]
    """Ends of the 95 % interval of each metric, over images."""
    subject: Subject
    """Its recipe is the config as it ran, as plain values; the same for every `work_dir`."""
    settings: dict[str, Any]
    """All that moves the number: a part of the config, `batch` (images of a step), `steps`,
    `precision` (`fp32`, `tf32`, `bf16`, `fp16`, several joined by `+`)."""
    details: dict[str, Any]
    """The shares of the work, and the metrics of the truth, which are the most that a model can have."""
    data: dict[str, dict[str, Any]]
    """`images`, `digest` and `left_out` of a `DataSet`, by `train_dataloader` and `val_dataloader`."""
    spent: Spent
    """Time, of all parts of a run that was cut."""
    evidence_kind: str
    evidence: Path
    predictions: Path
    log: Path
    model: Path | None
    """None where the config asks for no checkpoints."""


def run(
    config: Path,
    *,
    checkpoint: str,
    data: Path,
    work_dir: Path,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    label: str | None = None,
    arch: str | None = None,
    layout: str | None = None,
    branch: str | None = None,
    pixels: str | None = None,
    strict: bool = False,
    library: str = "",
    statement: Statement | None = None,
    measurement: Measurement | None = None,
) -> Outcome:
    """Train on the config's training split, evaluate on its validation split.

    Within `distributed.process_group` all processes together. Cut anywhere, the same call goes on
    from the last state, bit for bit as if it had not been cut.

    Args:
        config: mmengine config file with `default_scope` mmseg or mmdet.
        checkpoint: a file of any supported layout, `timm:NAME` or `random:ARCH`; `arch`, `layout`,
            `branch`, `pixels` and `statement` say of it what the file does not.
        data: folder that takes the place of the config's `data_root`.
        work_dir: folder for the run's files; made if missing.
        seed: of weights that are drawn and of the order of images; None for the config's own.
        overrides: `a.b=value`; the key must be there already.
        label: in front of the progress bar; the config's name if None.
        strict: refuse a checkpoint of which anything would be assumed.
        library: `mmseg` or `mmdet`, whose config it must be; either if empty.
        measurement: whose start is set back to that of a run that goes on.

    Raises:
        InputError: bad config, override, checkpoint or data; a loss that is no number; `work_dir`
            holds another run, or one is at work in it.
        Stopped: a signal asked for it; the state is saved.
    """
    stated_by_user: dict[str, Any] = {"arch": arch, "layout": layout, "branch": branch}
    # Everything a user can get wrong is looked at before the first file is written.
    with quiet(io.StringIO()), blaming(config.name, "cannot be used"):
        resolved = resolve(
            config,
            checkpoint=checkpoint,
            data=data,
            seed=seed,
            overrides=overrides,
            library=library,
            **stated_by_user,
        )
        seed = int(resolved.randomness.seed)
        loaded = load_checkpoint(checkpoint, pixels=pixels, seed=seed, **stated_by_user)
        loaded = stated(loaded, statement)
        size = resolved.model.backbone.get("img_size")
        if strict:
            loaded.refuse_guesses(size)
        fit_to(resolved, loaded, overrides)
        batch = shared(resolved, overrides)
        settings = _settings(resolved, batch, data)
        remarks = list(_remarks(resolved))
        with no_trace():
            check_memory(resolved, device=torch.device(get_device()), processes=batch.processes)
    for remark in remarks:
        say(f"{config.name}: {remark}")
    digests = from_first(data_digests(resolved) if rank() == 0 else {})
    # Where iterations are passes, a run could not go on with a step that is shared anew.
    passes = {} if batch.counted else {"passes": batch.passes, "pass": batch.size}
    keeper = Keeper(
        work_dir,
        Identity(settings | passes, seed, batch.total),
        passes=1 if batch.counted else batch.passes,
        measurement=measurement or Measurement(command=""),
        checkpoint_digest=loaded.info.digest,
        # Held-out data are read again after each cut: corrected, they take a saved training on.
        train_digest=digests["train_dataloader"],
    )
    inputs = digest_json([code_version(), settings, digests])
    remembered = keeper.run.states.folder / "checked.json"
    checked = require_sound(resolved, config.name, remembered=remembered, inputs=inputs)
    predictions, evidence = work_dir / "predictions.npz", work_dir / "evidence.npz"
    log = work_dir / "openmmlab.log"
    with keeper.alone():
        checked.remember(remembered, inputs)
        with no_trace():
            runner, samples, measured, precision = _trained(
                resolved, config.name, keeper, batch, label or config.stem, log
            )
            sets = [loop.dataloader.dataset for loop in (runner.train_loop, runner.val_loop)]
            if rank() == 0:
                write_predictions(predictions, samples, sets[1].metainfo["classes"])
                measured.statistics.write(evidence)
            keeps = checkpoint_hook(resolved) is not None
            model = keeper.keep_model(runner, as_json(resolved)) if keeps else None
        keeper.finish()
        return Outcome(
            metrics=measured.metrics,
            intervals=measured.intervals,
            subject=Subject(
                method=loaded.method,
                arch=loaded.arch.name,
                # Positions at the one size, if the backbone has one.
                checkpoint=loaded.described_at(size),
                recipe=as_json(resolved),
                seed=seed,
            ),
            settings=settings | {"steps": batch.steps(runner.iter), "precision": precision},
            details={
                "processes": batch.processes,
                "images_a_pass": batch.size,
                # The metrics of a model that makes no error.
                "truth": checked.truth,
            },
            data={
                loader: {
                    "images": len(images),
                    "digest": digests[loader],
                    "left_out": checked.left_out.get(loader, ""),
                }
                for loader, images in zip(LOADERS, sets, strict=True)
            },
            spent=keeper.run.spent,
            evidence_kind=measured.statistics.kind,
            evidence=evidence,
            predictions=predictions,
            log=log,
            model=model,
        )


def _trained(
    config: Config, name: str, keeper: Keeper, batch: Batch, label: str, log_file: Path
) -> tuple[DenseRunner, list[Any], Measured, str]:
    """Build, train and evaluate: the runner, its first predictions, its numbers, its precision."""
    precision, evidence, terminal = MiCLPrecision(), Evidence(), sys.stderr
    goes_on = bool(keeper.step)
    # The output of other processes than the first is dropped.
    place = log_file if rank() == 0 else Path(os.devnull)
    with place.open("a" if goes_on else "w", encoding="utf-8") as log:
        with quiet(log), blaming(name, "cannot be built"):
            runner = built(config, keeper, batch)
        loop = runner.train_loop
        if goes_on:
            say(f"going on from step {keeper.step} of {loop.max_iters}")
        total = loop.max_iters + loop.evaluations_left * len(runner.val_loop.dataloader)
        progress = Progress(label, total=total, done=keeper.step, quiet=rank() > 0)
        with progress, keeper.losses(), quiet(log):
            watch = Watch(progress, terminal, keeper)
            for hook in (precision, MiCLSameWeights(), evidence, watch):
                runner.register_hook(hook)
            with blaming(name, "fails"), keeper.signals:
                runner.train()
            measured, samples = evidence.measured(watch.metrics or {}), watch.samples
    if rank() == 0:
        # mmengine's own folder: its log and scalars again.
        shutil.rmtree(runner.log_dir, ignore_errors=True)
    return runner, samples, measured, precision.seen or keeper.precision


def _settings(config: Config, batch: Batch, data: Path) -> dict[str, Any]:
    """The settings that move the number and are known before anything runs."""
    found = {"config": what_counts(as_json(config), visible_path(data)), "batch": batch.total}
    together = normalised_together(config, batch)
    # Losses that average within a pass differ in the noise; the record's details have the parts.
    return found if together in (0, batch.total) else found | {"normalised_together": together}


def _remarks(config: Config) -> Iterator[str]:
    """Remarks on oddities of a config that can be run."""
    schedulers = config.get("param_scheduler") or []
    last = schedulers[-1] if isinstance(schedulers, list) and schedulers else {}
    end, steps = last.get("end"), config.train_cfg.get("max_iters")
    if end and steps and not last.get("by_epoch", True) and end != steps:
        yield (
            f"train_cfg.max_iters is {steps}, but the last schedule of the learning rate ends at {end}; "
            f"--set param_scheduler.{len(schedulers) - 1}.end={steps} ends them together"
        )
    images = config.val_dataloader.get("batch_size") or 1
    if images > 1 and evaluates_each_image(config.get("val_cfg")):
        yield (
            f"val_dataloader.batch_size={images} reads that many images at a time; each is evaluated by "
            "itself, so that the number does not depend on it"
        )
