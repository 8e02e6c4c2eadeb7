"""Train and evaluate one mmsegmentation or mmdetection config with a checkpoint's ViT.

The libraries' own runner, data sets, heads and metrics do the work. What is added: checks before
anything starts, a quiet terminal with one progress bar, the same result for the same seed, going on
where a run was cut, and no trace in the process afterwards, so that runs of both libraries can follow
one another. On other numbers of processes or passes a step has the same images; what the library's
losses average within a process's pass (Mask R-CNN's samples, `avg_non_ignore`) differs slightly.

It leaves in its folder:

openmmlab.log    everything the libraries printed
metrics.jsonl    a line a step: loss (the mean over processes), learning rate
recipe.json      what is trained, compared before a run goes on
states/          the newest two states, while the run is not finished
model.pt         the trained model, where the config asks for checkpoints
evidence.npz     what was measured of each evaluated image
predictions.npz  the first images with truth and predictions
<config>.py      the config as mmengine writes it
"""

import dataclasses
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from mmengine.config import Config
from mmengine.device import get_device

from micl_bench.checkpoints import Checkpoint, Statement, load_checkpoint, stated
from micl_bench.openmmlab.agreement import MiCLSameWeights
from micl_bench.openmmlab.batch import Batch, shared
from micl_bench.openmmlab.build import (
    DenseRunner,
    blaming,
    built,
    check_norms,
    checkpoint_hook,
    normalised_together,
    nothing_left_of_a_failure,
)
from micl_bench.openmmlab.configs import as_json, evaluates_each_image, fit_to, resolve
from micl_bench.openmmlab.data_checks import require_sound
from micl_bench.openmmlab.data_digests import data_digests
from micl_bench.openmmlab.evidence import Evidence
from micl_bench.openmmlab.isolation import no_trace, quiet
from micl_bench.openmmlab.memory import check_memory
from micl_bench.openmmlab.outcome import Outcome
from micl_bench.openmmlab.precision import MiCLPrecision
from micl_bench.openmmlab.predictions import write_predictions
from micl_bench.openmmlab.progress_hook import Watch
from micl_bench.openmmlab.resume import Identity, Keeper, alone_in
from micl_bench.openmmlab.settings import what_counts
from micl_bench.records.provenance import Measurement
from micl_bench.records.result import CheckpointInfo, visible_path
from micl_bench.runtime.distributed import from_first, rank
from micl_bench.runtime.log import MetricLog, Progress, say

_NUM_SAMPLES = 6


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
        checkpoint: a file of any supported layout, `timm:NAME` or `random:ARCH`.
        data: folder that takes the place of the config's `data_root`.
        work_dir: for what a run leaves; made if missing.
        seed: of weights that are drawn and of the order of images; None for the config's own.
        overrides: `a.b=value`; the key must be there already.
        label: in front of the progress bar; the config's name if None.
        arch, layout, branch, pixels: of the checkpoint, where the file does not tell.
        strict: refuse a checkpoint of which anything would be assumed.
        library: `mmseg` or `mmdet`, whose config it must be; either if empty.
        statement: which pre-training the weights are of, where the user states it.
        measurement: whose start is set back to that of a run that goes on.

    Raises:
        InputError: bad config, override, checkpoint or data; a loss that is no number; `work_dir`
            holds another run, or one is at work in it.
        Stopped: a signal asked for it; the state is saved.
    """
    # Everything a user can get wrong is looked at before the first file is written.
    with quiet(io.StringIO()), blaming(config.name, "cannot be used"):
        resolved = resolve(
            config,
            checkpoint=checkpoint,
            data=data,
            seed=seed,
            overrides=overrides,
            arch=arch,
            layout=layout,
            branch=branch,
            library=library,
        )
        seed = int(resolved.randomness.seed)
        loaded = stated(
            load_checkpoint(
                checkpoint, arch=arch, layout=layout, branch=branch, pixels=pixels, seed=seed
            ),
            statement,
        )
        if strict:
            loaded.refuse_guesses(resolved.model.backbone.get("img_size"))
        fit_to(resolved, loaded, overrides)
        batch = shared(resolved, overrides)
        check_norms(resolved)
        settings = _settings(resolved, batch, data)
        remarks = [*_unfinished_schedule(resolved), *_read_together(resolved)]
        with no_trace():
            check_memory(resolved, device=torch.device(get_device()), processes=batch.processes)
    for remark in remarks:
        say(f"{config.name}: {remark}")
    digests = from_first(data_digests(resolved) if rank() == 0 else {})
    keeper = Keeper(
        work_dir,
        Identity(settings | _passes(batch), seed, batch.total),
        passes=1 if batch.counted else batch.passes,
        measurement=measurement or Measurement(command=""),
        checkpoint_digest=loaded.info.digest,
        # Held-out data are read again after each cut: corrected, they take a saved training on.
        train_digest=digests["train_dataloader"],
    )
    checked = require_sound(resolved, config.name)
    training = _Training(config.name, resolved, batch, keeper, work_dir, label or config.stem)
    with nothing_left_of_a_failure(work_dir, keeper):
        work_dir.mkdir(parents=True, exist_ok=True)
        with alone_in(work_dir):
            keeper.run.claim()
            with no_trace():
                measured = training.run()
            return Outcome(
                **measured,
                arch=loaded.arch.name,
                method=loaded.method,
                checkpoint=_described(loaded, resolved),
                config=as_json(resolved),
                settings=settings | {name: measured[name] for name in ("steps", "precision")},
                seed=seed,
                summary=f"{measured['steps']} steps of {batch.total} images",
                batch=batch.total,
                images_a_pass=batch.size,
                processes=batch.processes,
                data_digests=digests,
                left_out=checked.left_out,
                truth=checked.truth,
                spent=keeper.spent,
                model=keeper.finish(),
            )


@dataclasses.dataclass(frozen=True)
class _Training:
    """A config that was checked, on its way through mmengine."""

    name: str
    config: Config
    batch: Batch
    keeper: Keeper
    folder: Path
    label: str

    def run(self) -> dict[str, Any]:
        """Build, train, evaluate, write what is left of it; the part of the outcome that it tells."""
        precision, evidence = MiCLPrecision(), Evidence()
        log_path, terminal, keeper = self.folder / "openmmlab.log", sys.stderr, self.keeper
        with _log(log_path, goes_on=keeper.step > 0) as log:
            with quiet(log), blaming(self.name, "cannot be built"):
                runner = built(self.config, self.folder, keeper, self.batch)
            if keeper.step:
                say(f"going on from step {keeper.step} of {runner.max_iters}")
            with self._progress(runner) as progress, _metrics(self.folder, keeper), quiet(log):
                watch = Watch(progress, terminal, keeper, num_samples=_NUM_SAMPLES)
                for hook in (precision, MiCLSameWeights(), evidence, watch):
                    runner.register_hook(hook)
                with blaming(self.name, "fails"), keeper.signals:
                    runner.train()
                measured = evidence.measured(watch.metrics or {})
                samples = watch.samples
        if rank() == 0:
            # mmengine's own folder: its log and scalars again.
            shutil.rmtree(runner.log_dir, ignore_errors=True)
        dataset = runner.val_loop.dataloader.dataset
        classes = tuple(dataset.metainfo["classes"])
        predictions, statistics = self.folder / "predictions.npz", self.folder / "evidence.npz"
        if rank() == 0:
            write_predictions(predictions, samples, classes)
            measured.statistics.write(statistics)
        if checkpoint_hook(self.config) is not None:
            keeper.keep_model(runner, as_json(self.config))
        return {
            "metrics": measured.metrics,
            "intervals": measured.intervals,
            "steps": self.batch.steps(runner.iter),
            "precision": precision.seen or keeper.precision,
            "images": len(dataset),
            "train_images": len(runner.train_loop.dataloader.dataset),
            "classes": classes,
            "predictions": predictions,
            "evidence_kind": measured.statistics.kind,
            "evidence": statistics,
            "log": log_path,
        }

    def _progress(self, runner: DenseRunner) -> Progress:
        loop = runner.train_loop
        looks = loop.evaluations_left * len(runner.val_loop.dataloader)
        total, done = loop.max_iters + looks, self.keeper.step
        return Progress(self.label, total=total, done=done, quiet=rank() > 0)


def _settings(config: Config, batch: Batch, data: Path) -> dict[str, Any]:
    """What moves the number and is known before anything runs."""
    found = {"config": what_counts(as_json(config), visible_path(data)), "batch": batch.total}
    together = normalised_together(config, batch)
    # Losses that average within a pass differ in the noise; the record's details tell the parts.
    apart = {"normalised_together": together} if together not in (0, batch.total) else {}
    return found | apart


def _passes(batch: Batch) -> dict[str, Any]:
    """How a step is shared, where a run could not go on otherwise: its iterations are passes."""
    return {} if batch.counted else {"passes": batch.passes, "pass": batch.size}


def _described(loaded: Checkpoint, config: Config) -> CheckpointInfo:
    """What a record says of the checkpoint; positions at the one size, if the backbone has one."""
    return loaded.described_at(config.model.backbone.get("img_size"))


def _read_together(config: Config) -> Iterator[str]:
    """What a batch of evaluated images is, where somebody asked for one."""
    images = config.val_dataloader.get("batch_size") or 1
    if images > 1 and evaluates_each_image(config.get("val_cfg")):
        yield (
            f"val_dataloader.batch_size={images} reads that many images at a time; each is evaluated by "
            "itself, so that the number does not depend on it"
        )


def _unfinished_schedule(config: Config) -> Iterator[str]:
    """What is odd where the learning rate's schedule and the run end at different steps."""
    schedulers = config.get("param_scheduler") or []
    last = schedulers[-1] if isinstance(schedulers, list) and schedulers else {}
    end, steps = last.get("end"), config.train_cfg.get("max_iters")
    if not end or not steps or last.get("by_epoch", True) or end == steps:
        return
    yield (
        f"train_cfg.max_iters is {steps}, but the last schedule of the learning rate ends at {end}; "
        f"--set param_scheduler.{len(schedulers) - 1}.end={steps} ends them together"
    )


@contextmanager
def _log(path: Path, *, goes_on: bool) -> Iterator[TextIO]:
    """The first process's log; what the others print is dropped."""
    place = path if rank() == 0 else Path(os.devnull)
    with place.open("a" if goes_on else "w", encoding="utf-8") as log:
        yield log


@contextmanager
def _metrics(folder: Path, keeper: Keeper) -> Iterator[None]:
    """Let the first process write its losses; those of steps that a kill undid go."""
    if rank() > 0:
        yield
        return
    keeper.log = MetricLog(folder / "metrics.jsonl", first_step=keeper.step + bool(keeper.step))
    try:
        yield
    finally:
        keeper.log.close()
