"""Supervised training of a whole ViT, for fine-tuning and for training from scratch.

Beside the task's own files it leaves those of every run (`runs/loop.py`).

Shapes: N images of one process, M held-out ones, C classes, R residual branches.
"""

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micl_bench.backbone.drop_path import DropPaths
from micl_bench.checkpoints import Checkpoint
from micl_bench.data.checked import Watch, decode_all, look_at
from micl_bench.data.folder import Folder
from micl_bench.data.stream import steps_per_epoch
from micl_bench.data.to_device import device_batches
from micl_bench.engine.frozen.features import run_over_folder
from micl_bench.engine.frozen.knn import top1
from micl_bench.engine.supervised.augment import LabelledBatch, augmented_batches
from micl_bench.engine.supervised.mixing import Mixing
from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.records.provenance import Measurement
from micl_bench.runs.loop import Loop, Training
from micl_bench.runs.optim import build_optimizer, set_rate
from micl_bench.runs.parallel import (
    exchanging,
    gradient_norm,
    load_whole_state,
    replicate,
    whole_state,
)
from micl_bench.runs.precision import PrecisionWatch, warn_of_emulation
from micl_bench.runs.run import Run
from micl_bench.runtime.distributed import mean, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say


class SupervisedTrainer:
    """Trains a checkpoint's ViT under a new head; within `distributed.process_group`, all processes
    together."""

    def __init__(
        self,
        recipe: FinetuneRecipe,
        checkpoint: Checkpoint,
        *,
        train: Folder,
        held_out: Folder,
        out: Path,
        device: torch.device,
        measurement: Measurement,
    ) -> None:
        """Build model and optimiser, go on from the last saved state."""
        self.recipe, self.checkpoint, self.device = recipe, checkpoint, device
        self.train, self.held_out = train, held_out
        if recipe.pool == "token" and not checkpoint.arch.class_token:
            source = checkpoint.info.source
            raise InputError(f"{source} has no [CLS] for a head to read; set pool=avg")
        per_epoch = steps_per_epoch(train, recipe.training.batch_size)
        self.plan = recipe.plan(steps_per_epoch=per_epoch, processes=world_size())
        self.trained = Run(
            out,
            recipe,
            digests={"train_digest": train.digest, "checkpoint_digest": checkpoint.info.digest},
            measurement=measurement,
        )
        self._build()
        training = Training(
            label="fine-tuning",
            numbers=("loss", "gradient_norm"),
            batches=self._batches,
            step=self._step,
            state=lambda: whole_state(self.replica, self.optimizer),
            load=lambda state: load_whole_state(self.replica, self.optimizer, state),
            check=self._look,
            # Where other images were held out, before a run went on, it looks again.
            checked=lambda row: row.get("held_out_digest") == self.held_out.digest,
            advice="lower training.optim.base_lr, in another --out, or try precision=fp32",
        )
        self.loop = Loop(self.trained, self.plan, training, device=device)

    def run(self) -> Tensor:
        """Train to the end, leave the model in eval mode; returns logits_MC of the held-out images.

        Cut anywhere, the same call goes on from the last saved step.

        Raises:
            Stopped: a signal asked for it; the state is saved.
            InputError: the loss is not finite, an image cannot be read, held-out images changed
                meanwhile, or another process trains into the same folder.
            OSError: the disk is full; the states saved before are whole.
        """
        watch = Watch(self.held_out)
        look_at(self.train)
        decode_all(self.held_out)
        with self.trained.alone():
            say(self.plan.describe())
            warn_of_emulation(self.recipe.precision, self.device)
            with self.loop.open():
                self.loop.train()
                logits_MC = self._look()
                watch.require_unchanged()
                return logits_MC

    def details(self) -> dict[str, Any]:
        """Details of the training for a record: steps, rates, processes, the last loss and the speed."""
        plan, seconds = self.plan, self.trained.spent.training or math.inf
        return {
            "steps": plan.total_steps,
            "peak_learning_rate": plan.peak_rate,
            "processes": plan.processes,
            "final_loss": self.loop.loss,
            # Over all processes and parts of the run.
            "images_per_second": round(plan.total_steps * plan.batch_size / seconds, 3),
        }

    def _build(self) -> None:
        recipe, training = self.recipe, self.recipe.training
        self.model = self.checkpoint.with_new_head(
            num_classes=len(self.train.classes),
            img_size=recipe.pixels.img_size,
            drop_path=recipe.drop_path,
            pool="avg" if recipe.pool == "avg" else "token",
            seed=recipe.seed,
            fresh_norm=recipe.has_fresh_norm,
        ).to(self.device)
        self.drop_paths = DropPaths(self.model, seed=recipe.seed)
        self.mixing = Mixing(
            recipe.mix,
            num_classes=len(self.train.classes),
            label_smoothing=training.label_smoothing,
            seed=recipe.seed,
        )
        self.optimizer = build_optimizer(self.model, training.optim)
        # On one image, before anything is compiled: hooks would be compiled too.
        watch, side = PrecisionWatch(self.model, asked=recipe.precision), recipe.pixels.img_size
        self._look_at(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.device))
        watch.stop()
        self.precision_seen = watch.seen()
        if recipe.compile:
            # Block by block: they share one compiled program, and DDP stays outside.
            for block in self.model.blocks:
                block.compile()
        self.replica = replicate(self.model.train(), self.device)

    def _batches(self, steps: range) -> Generator[LabelledBatch, None, None]:
        batches = augmented_batches(
            self.train,
            self.recipe.pixels,
            self.recipe.augment,
            mean=self.checkpoint.content.mean,
            batch_size=self.plan.batch_size,
            seed=self.recipe.seed,
            steps=steps,
            part=(rank(), world_size()),
            num_workers=self.recipe.num_workers,
        )
        return device_batches(batches, self.device)

    def _step(self, batch: LabelledBatch, step: int, rate: float) -> Tensor:
        """Means over processes, on the device, of the loss and the gradient's norm."""
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        images_NCHW = self.checkpoint.normalise(batch.images)
        batch.erase(images_NCHW)
        plan = self.plan
        # The place of the first image among all that the epoch uses, in order.
        first = step % plan.steps_per_epoch * plan.batch_size + rank() * plan.share
        targets_NC = self.mixing(images_NCHW, batch.labels, epoch=batch.epoch, first=first)
        paths_RN = self.drop_paths.weights(batch.epoch, batch.index_N).to(self.device)
        loss = self._backward(images_NCHW, targets_NC, paths_RN)
        norm = gradient_norm(self.replica, clip_norm=self.recipe.training.optim.clip_norm)
        self.optimizer.step()
        return mean(torch.stack([loss, norm]))

    def _backward(self, images_NCHW: Tensor, targets_NC: Tensor, paths_RN: Tensor) -> Tensor:
        """Add the gradient of the images' mean loss, a part of them at a time; returns that loss."""
        num_images = len(images_NCHW)
        size = min(self.recipe.micro_batch or num_images, num_images)
        total = images_NCHW.new_zeros(())
        for start in range(0, num_images, size):
            part = slice(start, start + size)
            self.drop_paths.give(paths_RN[:, part])
            with exchanging(self.replica, start + size >= num_images):
                logits_NC = self._logits(self.replica, images_NCHW[part]).float()
                loss = F.cross_entropy(logits_NC, targets_NC[part], reduction="sum") / num_images
                loss.backward()
            total += loss.detach()
        return total

    def _look(self) -> Tensor:
        """Measure the held-out images, write their accuracy down, return their logits_MC."""
        self.model.eval()
        logits_MC, labels_M = run_over_folder(
            self._look_at,
            self.held_out,
            self.recipe.pixels,
            device=self.device,
            num_workers=self.recipe.num_workers,
        )
        if self.trained.step < self.plan.total_steps:
            self.model.train()
        if not self.loop.has_checked():
            self.loop.write_check(
                {
                    "held_out_loss": F.cross_entropy(logits_MC, labels_M).item(),
                    "held_out_top1": top1(logits_MC, labels_M),
                    "held_out_digest": self.held_out.digest,
                }
            )
        return logits_MC

    @torch.no_grad()
    def _look_at(self, images_NCHW: Tensor) -> Tensor:
        return self._logits(self.model, self.checkpoint.normalise(images_NCHW))

    def _logits(self, model: nn.Module, images_NCHW: Tensor) -> Tensor:
        """Compute logits_NC of normalised images at the recipe's precision."""
        bf16 = self.recipe.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            logits_NC: Tensor = model(images_NCHW)
        return logits_NC
