"""What a run shows while it runs, and what is kept of its evaluation."""

import math
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any, TextIO

from mmengine.hooks import Hook
from mmengine.runner import Runner

from micl_bench.errors import InputError
from micl_bench.log import Progress


class Watch(Hook):
    """Steps a progress bar, and keeps the last evaluation's metrics and first predictions."""

    def __init__(self, progress: Progress, terminal: TextIO, *, num_samples: int) -> None:
        """Show `progress` on `terminal`, as standard error is a log file meanwhile."""
        self._progress, self._terminal, self._num_samples = progress, terminal, num_samples
        self.metrics: dict[str, float] = {}
        self.samples: list[Any] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Show the loss; stop when it is no number, as nothing can be learned after that."""
        loss = float(outputs["loss"].detach())
        if not math.isfinite(loss):
            raise InputError(f"the loss became {loss} at step {runner.iter + 1}; lower the lr")
        self._step(f"loss {loss:.3f}")

    def before_val_epoch(self, runner: Runner) -> None:
        """Forget an earlier evaluation."""
        self.samples.clear()

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Keep the first predictions."""
        self.samples += list(outputs or ())[: self._num_samples - len(self.samples)]
        self._step("evaluating")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the metrics under the library's names."""
        self.metrics = {name: float(value) for name, value in (metrics or {}).items()}

    def _step(self, note: str) -> None:
        with redirect_stderr(self._terminal):
            self._progress.step(note)
