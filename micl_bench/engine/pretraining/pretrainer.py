"""The pre-training loop. What it leaves in its folder:

recipe.json      the resolved recipe and data, compared before a run goes on
metrics.jsonl    a line a step (loss, rate, speed, waiting), a line a check (k-NN, health)
events/          the same for TensorBoard, where it is installed
views.npz        some held-out images and what each view sees of them
states/          the newest two states: everything needed to go on
backbone.pt      the result: weights, architecture, provenance
pretrain-*.json  the record of the finished run
"""

import contextlib
import dataclasses
import math
from pathlib import Path

import torch

from micl_bench.backbone import init_mae_
from micl_bench.data.checked import decode_all, look_at
from micl_bench.data.source import open_source, require_pixels
from micl_bench.data.stream import steps_per_epoch
from micl_bench.data.to_device import device_batches
from micl_bench.engine.pretraining import TASK
from micl_bench.engine.pretraining.meter import Meter, matmul_peak, peak_memory
from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.engine.pretraining.monitoring import Checks
from micl_bench.engine.pretraining.parallel import (
    distribute,
    load_whole_state,
    model_of,
    whole_state,
    whole_weights,
)
from micl_bench.engine.pretraining.plan import Plan
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.records import (
    Spent,
    finished_record,
    write_outcome,
)
from micl_bench.engine.pretraining.step import Step
from micl_bench.engine.pretraining.view_pictures import save_views
from micl_bench.records.provenance import Measurement
from micl_bench.runs.async_metrics import Lagging
from micl_bench.runs.journal import Journal
from micl_bench.runs.optim import build_optimizer
from micl_bench.runs.ownership import require_same_run, write_claim
from micl_bench.runs.precision import has_bfloat16
from micl_bench.runs.signals import StopSignals, stopped
from micl_bench.runs.states import States
from micl_bench.runtime.distributed import any_process, from_first, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import sweep
from micl_bench.runtime.locks import alone
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
        device: torch.device | None = None,
    ) -> None:
        """Open data and folder, build model and optimiser, go on from the last saved state.

        Args:
            name: what tables call it; the objective's name if empty.

        Raises:
            InputError: bad data, a batch that the processes do not divide, or `out` holds a run of
                another recipe or of other data.
        """
        self.recipe, self.out, self.name = recipe, out, name
        self.device = device or torch.device("cpu")
        self.measurement = Measurement(command=command)
        self.train = open_source(data / "train")
        self.held_out = open_source(data / "val", classes=self.train.classes)
        require_pixels(self.train, recipe.pixels, patch_size=recipe.sized_arch().patch_size)
        require_pixels(self.held_out, recipe.pixels)
        self.plan = Plan(
            recipe=recipe,
            steps_per_epoch=steps_per_epoch(self.train, recipe.batch_size),
            processes=world_size(),
        )
        self.arch, self.objective = self.plan.arch, self.plan.objective
        self.wants = self.objective.wants(self.arch)
        self.states = States(out / "states")
        # Before anything is saved there is nothing that another recipe could spoil.
        if self.states.exist() or (out / TASK.leaves).exists():
            require_same_run(out, recipe, train_digest=self.train.digest)
        self.step, self.loss, self.spent_before = 0, math.nan, Spent()
        self._build()
        self._restore()

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
        self.out.mkdir(parents=True, exist_ok=True)
        with alone(self.out, "training into") if rank() == 0 else contextlib.nullcontext():
            # A call that finds its record writes nothing that would.
            sweep(self.out)
            if record := finished_record(self.out):
                say(f"{self.out} holds a finished run; nothing to do")
                return record
            if rank() == 0:
                write_claim(self.out, self.recipe, train_digest=self.train.digest)
            self._announce()
            self._prepare()
            try:
                self._train()
                return self._finish()
            finally:
                self.journal.close()

    def _announce(self) -> None:
        say(self.plan.describe())
        if self.recipe.precision == "bf16" and not has_bfloat16(self.device):
            say("warning: this device computes bfloat16 in software; precision=fp32 is faster")
        if self.step:
            say(f"going on from step {self.step} of {self.plan.total_steps}")

    def _finish(self) -> Path | None:
        weights = whole_weights(self.model)
        if rank() != 0:
            return None
        return write_outcome(
            self.out,
            plan=self.plan,
            weights=weights,
            train=self.train,
            loss=self.loss,
            rows=self.journal.rows(),
            measurement=self.measurement,
            spent=self._spent,
            memory=peak_memory(self.device),
            name=self.name,
        )

    def _build(self) -> None:
        recipe = self.recipe
        vit = self.arch.build()
        init_mae_(vit, generator=torch.Generator().manual_seed(recipe.seed))
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

    def _restore(self) -> None:
        state = self.states.newest()
        if state is None:
            return
        try:
            load_whole_state(self.model, self.optimizer, state)
            self.step, self.loss = state["step"], state["loss"]
            self.spent_before = Spent(**state["spent"])
            self.measurement.began(state["start"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"the state in {self.states.folder} does not fit this run ({reason}); remove it to "
                "start over"
            ) from error

    def _prepare(self) -> None:
        recipe, plan = self.recipe, self.plan
        # Opens, and so checks, the data before anything is written.
        self.batches = device_batches(
            self.wants.batches(
                self.train,
                recipe.pixels,
                batch_size=recipe.batch_size,
                seed=recipe.seed,
                steps=range(self.step, plan.total_steps),
                part=(rank(), world_size()),
                num_workers=recipe.num_workers,
            ),
            self.device,
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
        self.meter = Meter(
            flop_per_image=self.objective.flop_per_image(self.arch),
            peak=self._measure_peak(),
        )
        self.watch = self.objective.watch(plan)
        self.journal = Journal(self.out, step=self.step, total=plan.total_steps, writes=rank() == 0)
        if self.step == 0 and rank() == 0:
            save_views(self.out / "views.npz", recipe, self.held_out)
        # Before the first step, and where a run was stopped between a save and its check.
        checked = any(row["step"] == self.step and "knn_top1" in row for row in self.journal.rows())
        if plan.check_due(self.step) and not from_first(checked):
            self._check()

    def _train(self) -> None:
        lagging = Lagging(self.device)
        self.meter.pause()
        with StopSignals() as asked, self.journal.progress, contextlib.closing(self.batches):
            for batch in self.meter.waiting_for(self.batches):
                rate = self.plan.rate(self.step)
                lagging.push((self.step + 1, rate), self.train_step(batch, rate))
                self.step += 1
                self.meter.step(len(batch))
                self._report(lagging.ready())
                stop = any_process(bool(asked.signum)) and self.step < self.plan.total_steps
                check = self.plan.check_due(self.step)
                if not (stop or check or self.plan.save_due(self.step)):
                    continue
                self._report(lagging.ready(everything=True))
                # Before the check, which may take longer than a scheduler waits.
                self._save()
                if stop:
                    raise stopped(asked.signum, step=self.step, total=self.plan.total_steps)
                if check:
                    self._check()
                self.meter.pause()

    def _report(self, numbers: list[tuple[tuple[int, float], list[float]]]) -> None:
        for (step, rate), values in numbers:
            row = dict(zip(self.train_step.numbers, values, strict=True))
            if not (math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"])):
                raise InputError(
                    f"the loss became {row['loss']}, its gradient's norm {row['gradient_norm']}, at "
                    f"step {step}; what was saved before, in {self.states.folder}, is untouched; a "
                    "lower optim.base_lr or a longer optim.warmup_epochs, in another --out, may help"
                )
            self.loss = row["loss"]
            if warning := self.watch(step, row):
                say(f"warning: step {step}: {warning}")
            row |= {
                "step": step,
                "epoch": step / self.plan.steps_per_epoch,
                "lr": rate,
                "images_per_second": self.meter.images_per_second * world_size(),
                "data_wait": self.meter.data_wait,
                "mfu": self.meter.mfu,
            }
            self.journal.step(row, total=self.plan.total_steps, epochs=self.recipe.epochs)

    def _measure_peak(self) -> float:
        bf16 = self.recipe.precision == "bf16"
        return matmul_peak(self.device, torch.bfloat16 if bf16 else torch.float32)

    def _check(self) -> None:
        if self.meter.mfu > 1:
            # Somebody else used the machine when its peak was measured.
            self.meter.raise_peak(self._measure_peak())
        if self.recipe.knn_every_epochs and (found := self.checks.measure(self.model)):
            epoch = self.step / self.plan.steps_per_epoch
            self.journal.write({"step": self.step, "epoch": epoch, **found})

    def _save(self) -> None:
        state = whole_state(self.model, self.optimizer)
        if rank() == 0:
            self.journal.flush()
            about = {"step": self.step, "loss": self.loss, "start": self.measurement.start}
            self.states.save(
                self.step, {**state, **about, "spent": dataclasses.asdict(self._spent)}
            )

    @property
    def _spent(self) -> Spent:
        seconds = self.measurement.elapsed
        return self.spent_before + Spent(
            seconds=seconds,
            training=self.meter.busy_seconds,
            device_seconds=seconds * world_size(),
        )
