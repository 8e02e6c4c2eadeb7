"""Pre-training. What it leaves in its folder, beside what every run does (`runs/loop.py`):

views.npz        some held-out images and what the objective sees of them
backbone.pt      the result: weights, architecture, provenance
pretrain-*.json  the record of the finished run
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from micl_bench.backbone import init_mae_
from micl_bench.checkpoints import Checkpoint
from micl_bench.data.checked import decode_all, look_at
from micl_bench.data.source import open_source, require_pixels
from micl_bench.data.stream import steps_per_epoch
from micl_bench.data.to_device import device_batches
from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining import TASK
from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.engine.pretraining.monitoring import Checks
from micl_bench.engine.pretraining.parallel import distribute, model_of, whole_weights
from micl_bench.engine.pretraining.plan import PretrainPlan
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.records import finished_record, write_outcome
from micl_bench.engine.pretraining.step import Step
from micl_bench.engine.pretraining.view_pictures import save_views
from micl_bench.engine.pretraining.warm_start import as_start, begin_with
from micl_bench.records.provenance import Measurement
from micl_bench.runs.loop import Loop, Training
from micl_bench.runs.meter import Meter, matmul_peak, peak_memory
from micl_bench.runs.optim import build_optimizer
from micl_bench.runs.parallel import load_whole_state, whole_state
from micl_bench.runs.precision import has_bfloat16
from micl_bench.runs.run import Run
from micl_bench.runtime.distributed import rank, world_size
from micl_bench.runtime.log import say


class Pretrainer:
    """Trains one backbone on `<data>/train` and watches it on `<data>/val`.

    Each is an image folder or a packed store. Within `distributed.process_group`, every process
    makes one of these, and they train together.
    """

    def __init__(
        self,
        recipe: PretrainRecipe,
        *,
        data: Path,
        out: Path,
        command: str,
        name: str = "",
        start: Checkpoint | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Open data and folder, build model and optimiser, go on from the last saved state.

        Args:
            name: what tables call it; the objective's name if empty.
            start: what the backbone starts from (`warm_start.load_start`); drawn by the seed if None.

        Raises:
            InputError: bad data, a batch that the processes do not divide, or `out` holds a run of
                another recipe, of other data or from another start.
        """
        self.recipe, self.out, self.name, self.start = recipe, out, name, start
        self.device = device or torch.device("cpu")
        self.train = open_source(data / "train")
        self.held_out = open_source(data / "val", classes=self.train.classes)
        require_pixels(self.train, recipe.pixels, patch_size=recipe.sized_arch().patch_size)
        require_pixels(self.held_out, recipe.pixels)
        self.plan = PretrainPlan.of(
            recipe,
            steps_per_epoch=steps_per_epoch(self.train, recipe.batch_size),
            processes=world_size(),
        )
        self.objective = self.plan.objective
        self.wants = self.objective.wants(recipe.sized_arch())
        self.trained = Run(
            out,
            recipe,
            digests={
                "train_digest": self.train.digest,
                "init_digest": start.info.digest + start.content.branch if start else "",
            },
            measurement=Measurement(command=command),
            finished=(out / TASK.leaves).exists(),
        )
        self._build()
        self.loop = Loop(self.trained, self.plan, self._training(), device=self.device)

    def run(self) -> Path | None:
        """Train to the end and write the record; the first process returns its path.

        Cut anywhere, the same call goes on from the last saved step; finished, it returns at once.

        Raises:
            Stopped: a signal asked for it; the state is saved.
            InputError: the loss is not finite, an image cannot be read, or another process trains
                into the same folder.
            OSError: the disk is full; the states saved before are whole.
        """
        if not finished_record(self.out):
            look_at(self.train)
            decode_all(*([self.held_out] if self.recipe.knn_every_epochs else []))
        with self.trained.alone():
            if record := finished_record(self.out):
                say(f"{self.out} holds a finished run; nothing to do")
                return record
            say(self.plan.describe())
            if self.recipe.precision == "bf16" and not has_bfloat16(self.device):
                say("warning: this device computes bfloat16 in software; precision=fp32 is faster")
            with self.loop.open():
                self.trained.meter = Meter(
                    flop_per_image=self.objective.flop_per_image(self.recipe.sized_arch()),
                    peak=self._measure_peak(),
                )
                if self.trained.step == 0 and rank() == 0:
                    save_views(self.out / "views.npz", self.recipe, self.held_out)
                self.loop.train()
                return self._finish()

    def _finish(self) -> Path | None:
        weights = whole_weights(self.model)
        if rank() != 0:
            return None
        return write_outcome(
            self.out,
            plan=self.plan,
            weights=weights,
            train=self.train,
            loss=self.loop.loss,
            rows=self.loop.journal.rows(),
            run=self.trained,
            memory=peak_memory(self.device),
            name=self.name,
            start=as_start(self.start) if self.start else None,
        )

    def _build(self) -> None:
        recipe = self.recipe
        vit = recipe.sized_arch().build()
        init_mae_(vit, generator=torch.Generator().manual_seed(recipe.seed))
        if self.start:
            say(begin_with(vit, self.start))
        self.model = distribute(
            PretrainingModel(
                self.objective, vit.train(), precision=recipe.precision, seed=recipe.seed
            ).to(self.device),
            parallel=recipe.parallel,
            compile_blocks=recipe.compile,
            checkpoint_activations=recipe.activation_checkpointing,
        )
        self.optimizer = build_optimizer(vit, recipe.optim, model_of(self.model).added)
        self.train_step = Step(
            self.model,
            self.optimizer,
            micro_batch=recipe.micro_batch,
            clip_norm=recipe.optim.clip_norm,
        )
        self.checks = Checks(
            self.train,
            self.held_out,
            recipe.pixels,
            wants=self.wants,
            seed=recipe.seed,
            knn_k=recipe.knn_k,
            num_workers=recipe.num_workers,
            device=self.device,
        )

    def _training(self) -> Training:
        return Training(
            label="pre-training",
            numbers=self.train_step.numbers,
            batches=self._batches,
            step=self._step,
            state=lambda: whole_state(self.model, self.optimizer),
            load=lambda state: load_whole_state(self.model, self.optimizer, state),
            check=self._check,
            checked=lambda row: "knn_top1" in row,
            notice=self.objective.watch(self.plan),
            advice="a lower optim.base_lr or a longer optim.warmup_epochs, in another --out, may help",
        )

    def _batches(self, steps: range) -> Generator[Visible, None, None]:
        recipe = self.recipe
        batches = self.wants.batches(
            self.train,
            recipe.pixels,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            steps=steps,
            part=(rank(), world_size()),
            num_workers=recipe.num_workers,
        )
        return device_batches(batches, self.device)

    def _step(self, batch: Any, step: int, rate: float) -> Tensor:
        return self.train_step(batch, rate)

    def _check(self) -> None:
        if self.trained.meter.mfu > 1:
            # Somebody else used the machine when its peak was measured.
            self.trained.meter.raise_peak(self._measure_peak())
        if found := self.checks.measure(self.model):
            self.loop.write_check(found)

    def _measure_peak(self) -> float:
        bf16 = self.recipe.precision == "bf16"
        return matmul_peak(self.device, torch.bfloat16 if bf16 else torch.float32)
