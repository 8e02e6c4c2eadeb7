"""Supervised training of a whole ViT: what fine-tuning and training from scratch share.

It leaves in its folder, beside what the task writes:

recipe.json      the resolved recipe, data and start, compared before a run goes on
metrics.jsonl    a line a step (loss, rate, speed, waiting), a line a look at the held-out images
events/          the same for TensorBoard, where it is installed
states/          the newest two states: everything needed to go on
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from micl_bench.backbone import Vit
from micl_bench.data.checked import Watch, decode_all, look_at
from micl_bench.data.folder import Folder
from micl_bench.data.stream import steps_per_epoch
from micl_bench.data.to_device import device_batches
from micl_bench.engine.frozen.features import run_over_folder
from micl_bench.engine.frozen.knn import top1
from micl_bench.engine.pretraining.meter import Meter
from micl_bench.engine.pretraining.parallel import load_whole_state, replicate, whole_state
from micl_bench.engine.pretraining.records import Spent
from micl_bench.engine.supervised.augment import augmented_batches
from micl_bench.engine.supervised.drop_path import DropPaths
from micl_bench.engine.supervised.mixing import Mixing
from micl_bench.engine.supervised.plan import SupervisedPlan
from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.engine.supervised.step import NUMBERS, SupervisedStep
from micl_bench.records.provenance import Measurement
from micl_bench.runs.async_metrics import Lagging
from micl_bench.runs.journal import Journal
from micl_bench.runs.optim import build_optimizer
from micl_bench.runs.ownership import require_same_run, write_claim
from micl_bench.runs.precision import PrecisionWatch, has_bfloat16
from micl_bench.runs.signals import StopSignals, stopped
from micl_bench.runs.states import States
from micl_bench.runtime.distributed import any_process, from_first, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.locks import alone
from micl_bench.runtime.log import say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Where training starts: a ViT under a fresh head, and how it wants its pixels."""

    model: Vit
    normalise: Callable[[Tensor], Tensor]
    """From pixels in 0 to 255."""
    mean: tuple[float, float, float]
    """Of the pixels, in 0 to 1: what RandAugment fills up with."""
    digest: str
    """Of the checkpoint."""


class SupervisedTrainer:
    """Trains a classifier in place; within `distributed.process_group`, all processes together."""

    def __init__(
        self,
        recipe: FinetuneRecipe,
        start: Start,
        *,
        train: Folder,
        held_out: Folder,
        out: Path,
        device: torch.device,
        measurement: Measurement,
    ) -> None:
        """Build model and optimiser, go on from the last saved state.

        Raises:
            InputError: a batch that the processes do not divide, layers that the model does not
                tell, or `out` holds a run of another recipe, data or checkpoint.
        """
        self.recipe, self.start, self.out, self.device = recipe, start, out, device
        self.train, self.held_out, self.measurement = train, held_out, measurement
        self.plan = SupervisedPlan(
            recipe=recipe,
            steps_per_epoch=steps_per_epoch(train, recipe.training.batch_size),
            processes=world_size(),
        )
        self.states = States(out / "states")
        self._digests = {
            "train_digest": train.digest,
            "checkpoint_digest": start.digest,
        }
        # Before anything is saved there is nothing that another recipe could spoil.
        if self.states.exist():
            require_same_run(out, recipe, **self._digests)
        self.step, self.loss, self._spent_before = 0, math.nan, Spent()
        self.meter = Meter()
        self._build()
        self._restore()

    def run(self) -> Tensor:
        """Train to the end, leave the model in eval mode; returns logits_MC of the held-out images.

        Cut anywhere, the same call goes on from the last saved step.

        Raises:
            Stopped: a signal asked for it; the state is saved.
            InputError: the loss is not finite, an image cannot be read, held-out images changed
                while they were, or another process trains into the same folder.
            OSError: the disk is full; the states saved before are whole.
        """
        watch = Watch(self.held_out)
        look_at(self.train)
        decode_all(self.held_out)
        self.out.mkdir(parents=True, exist_ok=True)
        with alone(self.out, "training into") if rank() == 0 else contextlib.nullcontext():
            if rank() == 0:
                write_claim(self.out, self.recipe, **self._digests)
            self._announce()
            self.journal = Journal(
                self.out,
                step=self.step,
                total=self.plan.total_steps,
                writes=rank() == 0,
                label="fine-tuning",
            )
            try:
                self._train()
                logits_MC = self._look()
                watch.require_unchanged()
                return logits_MC
            finally:
                self.journal.close()

    @property
    def spent(self) -> Spent:
        """Time so far, of all parts of the run."""
        seconds = self.measurement.elapsed
        return self._spent_before + Spent(
            seconds=seconds,
            training=self.meter.busy_seconds,
            device_seconds=seconds * world_size(),
        )

    @property
    def images_per_second(self) -> float:
        """Of training, over all processes and parts of the run."""
        images = self.plan.total_steps * self.recipe.training.batch_size
        return images / (self.spent.training or math.inf)

    def _announce(self) -> None:
        say(self.plan.describe())
        if self.recipe.precision == "bf16" and not has_bfloat16(self.device):
            say("warning: this device computes bfloat16 in software; precision=fp32 is faster")
        if self.step:
            say(f"going on from step {self.step} of {self.plan.total_steps}")

    def _build(self) -> None:
        recipe, training = self.recipe, self.recipe.training
        self.model = self.start.model.to(self.device)
        drop_paths = DropPaths(self.model, seed=recipe.seed)
        self.optimizer = build_optimizer(self.model, training.optim)
        self.precision_seen = self._watch_precision()
        if recipe.compile:
            # Block by block: they share one compiled program, and DDP stays outside.
            for block in self.model.blocks:
                block.compile()
        self.replica = replicate(self.model.train(), self.device)
        self.train_step = SupervisedStep(
            self.replica,
            self.optimizer,
            normalise=self.start.normalise,
            mixing=Mixing(
                recipe.mix,
                num_classes=len(self.train.classes),
                label_smoothing=training.label_smoothing,
                seed=recipe.seed,
            ),
            drop_paths=drop_paths,
            precision=recipe.precision,
            micro_batch=recipe.micro_batch,
            clip_norm=training.optim.clip_norm,
        )

    def _watch_precision(self) -> str:
        # On one image, before anything is compiled: hooks would be compiled too.
        watch = PrecisionWatch(self.model, asked=self.recipe.precision)
        side = self.recipe.pixels.img_size
        self._logits(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.device))
        watch.stop()
        return watch.seen()

    def _restore(self) -> None:
        state = self.states.newest()
        if state is None:
            return
        try:
            load_whole_state(self.replica, self.optimizer, state)
            self.step, self.loss = state["step"], state["loss"]
            self._spent_before = Spent(**state["spent"])
            self.measurement.began(state["start"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"the state in {self.states.folder} does not fit this run ({reason}); remove it to "
                "start over"
            ) from error

    def _train(self) -> None:
        plan, lagging = self.plan, Lagging(self.device)
        batches = device_batches(
            augmented_batches(
                self.train,
                self.recipe.pixels,
                self.recipe.augment,
                mean=self.start.mean,
                batch_size=self.recipe.training.batch_size,
                seed=self.recipe.seed,
                steps=range(self.step, plan.total_steps),
                part=(rank(), world_size()),
                num_workers=self.recipe.num_workers,
            ),
            self.device,
        )
        # Where a run was stopped between a save and its look.
        if plan.check_due(self.step) and not self._looked():
            self._look()
        self.meter.pause()
        with StopSignals() as asked, self.journal.progress, contextlib.closing(batches):
            for batch in self.meter.waiting_for(batches):
                rate, first = plan.rate(self.step), plan.first_image(self.step, rank=rank())
                lagging.push((self.step + 1, rate), self.train_step(batch, rate, first=first))
                self.step += 1
                self.meter.step(len(batch.images))
                self._report(lagging.ready())
                stop = any_process(bool(asked.signum)) and self.step < plan.total_steps
                if not (stop or plan.check_due(self.step) or plan.save_due(self.step)):
                    continue
                self._report(lagging.ready(everything=True))
                # Before the look, which may take longer than a scheduler waits.
                self._save()
                if stop:
                    raise stopped(asked.signum, step=self.step, total=plan.total_steps)
                if plan.check_due(self.step):
                    self._look()
                self.meter.pause()

    def _report(self, numbers: list[tuple[tuple[int, float], list[float]]]) -> None:
        for (step, rate), values in numbers:
            row = dict(zip(NUMBERS, values, strict=True))
            if not (math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"])):
                raise InputError(
                    f"the loss is not finite at step {step} (loss {row['loss']}, gradient norm "
                    f"{row['gradient_norm']}); what was saved before, in {self.states.folder}, is "
                    "untouched; lower training.optim.base_lr, in another --out, or try "
                    "precision=fp32"
                )
            self.loss = row["loss"]
            row |= {
                "step": step,
                "epoch": step / self.plan.steps_per_epoch,
                "lr": rate,
                "images_per_second": self.meter.images_per_second * world_size(),
                "data_wait": self.meter.data_wait,
            }
            epochs = self.recipe.training.epochs
            self.journal.step(row, total=self.plan.total_steps, epochs=epochs)

    def _look(self) -> Tensor:
        """logits_MC of the held-out images, whose accuracy is noted."""
        self.model.eval()
        logits_MC, labels_M = run_over_folder(
            self._logits,
            self.held_out,
            self.recipe.pixels,
            device=self.device,
            num_workers=self.recipe.num_workers,
        )
        if self.step < self.plan.total_steps:
            self.model.train()
        if not self._looked():
            self.journal.write(
                {
                    "step": self.step,
                    "epoch": self.step / self.plan.steps_per_epoch,
                    "held_out_loss": F.cross_entropy(logits_MC, labels_M).item(),
                    "held_out_top1": top1(logits_MC, labels_M),
                    "held_out_digest": self.held_out.digest,
                }
            )
        return logits_MC

    def _looked(self) -> bool:
        rows = self.journal.rows()
        # Where other images were held out, before a run went on, it looks again.
        found = any(
            row["step"] == self.step and row.get("held_out_digest") == self.held_out.digest
            for row in rows
        )
        return bool(from_first(found))

    @torch.no_grad()
    def _logits(self, images_NCHW: Tensor) -> Tensor:
        bf16 = self.recipe.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return self.model(self.start.normalise(images_NCHW))

    def _save(self) -> None:
        state = whole_state(self.replica, self.optimizer)
        if rank() == 0:
            self.journal.flush()
            about = {"step": self.step, "loss": self.loss, "start": self.measurement.start}
            self.states.save(self.step, {**state, **about, "spent": dataclasses.asdict(self.spent)})
