"""The progress line of a run, and its losses, predictions and metrics as they come."""

import itertools
import math
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any, TextIO

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from micl_bench.openmmlab.resume import Keeper
from micl_bench.runtime.distributed import collect_objects, mean, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress

_NUM_SAMPLES = 6


class Watch(Hook):
    """Steps a progress bar, writes the losses, keeps the last metrics and the first predictions."""

    # After the hooks that look at a step, before those that move something.
    priority = "BELOW_NORMAL"

    def __init__(self, progress: Progress, terminal: TextIO, keeper: Keeper) -> None:
        """Show `progress` on `terminal`, as standard error is a log file meanwhile."""
        self._progress, self._terminal, self._keeper = progress, terminal, keeper
        self._samples: list[Any] = []
        self.metrics: dict[str, float] | None = None
        """The library's, under its own names, of the last evaluation; None before the first."""

    @property
    def samples(self) -> list[Any]:
        """The first images of the data set with truth and predictions, on the first process.

        Every process has to call it.
        """
        parts = collect_objects([sample.cpu() for sample in self._samples])
        turns = itertools.zip_longest(*parts)
        ordered = [sample for turn in turns for sample in turn if sample is not None]
        return ordered[:_NUM_SAMPLES]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Show and write the loss, the mean over processes.

        Raises:
            InputError: it is no number, after which nothing can be learned; on all processes.
        """
        step, own = runner.train_loop.iter + 1, torch.as_tensor(outputs["loss"]).detach()
        loss = float(mean(own.float()))
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} at step {step}; lower optim_wrapper.optimizer.lr"
            )
        if self._keeper.log:
            rates = next(iter(runner.optim_wrapper.get_lr().values()))
            self._keeper.log.write({"step": step, "loss": loss, "lr": max(rates)})
        self._step(f"loss {loss:.3f}")

    def before_val_epoch(self, runner: Runner) -> None:
        """Forget an earlier evaluation."""
        self._samples, self.metrics = [], None

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Keep the first predictions; leave at a signal, where that loses nothing."""
        self._samples += list(outputs or ())[: _NUM_SAMPLES - len(self._samples)]
        self._step("evaluating")
        loader = runner.val_loop.dataloader
        # As many as every process has.
        if batch_idx < len(loader.dataset) // (world_size() * (loader.batch_size or 1)):
            self._keeper.leave_if_asked(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the metrics under the library's names."""
        self.metrics = {name: float(value) for name, value in (metrics or {}).items()}

    def _step(self, note: str) -> None:
        with redirect_stderr(self._terminal):
            self._progress.step(note)
