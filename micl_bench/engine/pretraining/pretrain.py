"""Pre-training. Beside the files of every run (`runs/loop.py`) it leaves in its folder:

views.npz        some held-out images and the patches that the objective sees of them
backbone.pt      the result: weights, architecture, provenance
pretrain-*.json  the record of the finished run
"""

from collections.abc import Generator, Sequence
from pathlib import Path

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
from micl_bench.engine.pretraining.health import Checks
from micl_bench.engine.pretraining.model import (
    PretrainingModel,
    distribute,
    model_of,
    whole_weights,
)
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.records import finished_record, write_outcome
from micl_bench.engine.pretraining.step import Step
from micl_bench.engine.pretraining.view_pictures import save_views
from micl_bench.engine.pretraining.warm_start import begin_own_with, begin_with, load_start
from micl_bench.records.provenance import Measurement, command_of
from micl_bench.records.result import Result, read_result, require_method
from micl_bench.runs.loop import Loop, Training
from micl_bench.runs.meter import Meter, matmul_peak, peak_memory
from micl_bench.runs.optim import RisingDecay, build_optimizer, set_decay
from micl_bench.runs.parallel import load_whole_state, whole_state
from micl_bench.runs.precision import warn_of_emulation
from micl_bench.runs.run import Run
from micl_bench.runtime.config import resolve
from micl_bench.runtime.distributed import from_first, process_group, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say


def pretrain(
    recipe: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    method: str = "",
    init: str | None = None,
    layout: str | None = None,
    branch: str | None = None,
    command: str = "",
) -> Result:
    """Pre-train a ViT; its weights are `<out>/backbone.pt`, its record lies beside them.

    The same call goes on where an earlier one was cut, and returns at once where one has finished.
    Started by torchrun, the processes share each batch; every one of them gets the record.

    Args:
        recipe: a name that `micl-bench list recipes` shows, or a file.
        data: a folder with `train` and `val`, class folders or packed stores; or `NAME:PLACE` of an
            image source.
        out: folder for the run's files.
        overrides: `key=value`, each changes one value of the recipe.
        method: row name in tables; empty for the objective's.
        init: a checkpoint as `load_checkpoint` takes it, with its `layout` and `branch` where they must
            be stated. Training starts from its backbone, and from the objective's own modules where
            the file holds them; the optimiser's state starts anew. None for random weights.
        command: the command line that the record repeats; empty for the one that does the same.

    Returns:
        The record of the run.

    Raises:
        InputError: a recipe, override, data or start that cannot be used; `out` is a file, or holds a
            run of another recipe or from another start.
        Stopped: a signal (SIGTERM, SIGUSR1, SIGUSR2) asked for it; the state is saved.

    Example:
        result = micl_bench.pretrain("embedded", data="work/data/embedded", out="work/micl")
        print(result.metrics["knn_top1"].value)
    """
    data, out = Path(data), Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    require_method(method)
    if not init and (layout or branch):
        raise InputError(
            "--format and --branch are of the checkpoint to start from: give --init too"
        )
    options = {"--data": data, "--out": out, "--set": list(overrides), "--method": method}
    options |= {"--init": init, "--format": layout, "--branch": branch}
    resolved = resolve(PretrainRecipe, recipe, overrides)
    arch, beside = resolved.sized_arch(), resolved.objective.build().in_files
    described = {"layout": layout, "branch": branch}
    start = load_start(init, arch, **described, beside=beside) if init else None
    with process_group() as device:
        path = Pretrainer(
            resolved,
            data=data,
            out=out,
            command=command or command_of("pretrain", recipe, options=options),
            name=method,
            start=start,
            device=device,
        ).run()
        result: Result = from_first(read_result(path) if path else None)
    return result


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

        Tables call it `name`, or else by its objective. Its backbone begins with `start`
        (`warm_start.load_start`), or else with weights that the seed draws.
        """
        self.recipe, self.out, self.name, self.start = recipe, out, name, start
        self.began_with = ""
        self.device = device or torch.device("cpu")
        self.train = open_source(data / "train")
        self.held_out = open_source(data / "val", classes=self.train.classes)
        self.objective = recipe.objective.build()
        self.wants = self.objective.wants(recipe.sized_arch())
        self.wants.require(self.train, recipe.pixels)
        require_pixels(self.held_out, recipe.pixels)
        per_epoch = steps_per_epoch(self.train, recipe.batch_size)
        self.plan = recipe.plan(steps_per_epoch=per_epoch, processes=world_size())
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
        training = Training(
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
        self.loop = Loop(self.trained, self.plan, training, device=self.device)

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
            say(self.recipe.describe(self.plan))
            warn_of_emulation(self.recipe.precision, self.device)
            with self.loop.open():
                flop = self.objective.flop_per_image(
                    self.recipe.sized_arch(), batch_size=self.recipe.batch_size
                )
                self.trained.meter = Meter(flop_per_image=flop, peak=self._measure_peak())
                if self.trained.step == 0 and rank() == 0:
                    save_views(self.out / "views.npz", self.recipe, self.held_out)
                self.loop.train()
                weights = whole_weights(self.model)
                if rank() != 0:
                    return None
                return write_outcome(
                    self.trained,
                    self.recipe,
                    self.plan,
                    weights=weights,
                    train=self.train,
                    loss=self.loop.loss,
                    rows=self.loop.journal.rows(),
                    memory=peak_memory(self.device),
                    name=self.name,
                    start=self.start,
                    began_with=self.began_with,
                )

    def _build(self) -> None:
        recipe = self.recipe
        vit = recipe.sized_arch().build()
        init_mae_(vit, generator=torch.Generator().manual_seed(recipe.seed))
        if self.start:
            begin_with(vit, self.start)
        model = PretrainingModel(
            self.objective, vit.train(), precision=recipe.precision, seed=recipe.seed
        )
        if self.start:
            self.began_with = begin_own_with(self.objective, vit, model.added, self.start)
            say(f"starting from {self.start.info.source} {self.began_with}")
        self.model = distribute(
            model.to(self.device),
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
        self.checks = Checks(self.train, self.held_out, recipe, self.wants, self.device)

    def _step(self, batch: Visible, step: int, rate: float) -> Tensor:
        progress, optim = (step + 1) / self.plan.total_steps, self.recipe.optim
        if isinstance(optim, RisingDecay):
            set_decay(self.optimizer, optim.decay(progress))
        return self.train_step(batch, rate, progress)

    def _batches(self, steps: range) -> Generator[Visible, None, None]:
        batches = self.wants.batches(
            self.train,
            self.recipe.pixels,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            steps=steps,
            part=(rank(), world_size()),
            num_workers=self.recipe.num_workers,
        )
        return device_batches(batches, self.device)

    def _check(self) -> None:
        meter = self.trained.meter
        if meter.mfu > 1:
            # Somebody else used the machine when its peak was measured; what it did once, it can do.
            meter.peak = max(meter.peak, self._measure_peak())
        if found := self.checks.measure(self.model):
            self.loop.write_check(found)

    def _measure_peak(self) -> float:
        bf16 = self.recipe.precision == "bf16"
        return matmul_peak(self.device, torch.bfloat16 if bf16 else torch.float32)
