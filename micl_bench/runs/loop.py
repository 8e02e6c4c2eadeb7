"""The one training loop: steps, reports, saves, checks, stops on a signal, and goes on from there.

Who trains (`engine/pretraining`, `engine/supervised`, `engine/frozen/probe`) says what a step is. What
is left in a run's folder:

recipe.json      the resolved recipe and what it is trained on, compared before a run goes on
metrics.jsonl    a line per step (loss, rate, speed, waiting) and per check of held-out images
events/          the same for TensorBoard, where it is installed
states/          the newest two states: everything needed to go on
"""

import contextlib
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from micl_bench.runs.journal import Journal
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runs.run import Run
from micl_bench.runs.signals import StopSignals, stopped
from micl_bench.runtime.distributed import any_process, from_first, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say

# One step is being computed, the next is queued behind it.
_LAG = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A training, as the loop calls it."""

    label: str
    """The label of the progress line."""
    numbers: tuple[str, ...]
    """The names of the numbers of a step, in order; `loss` is one of them."""
    batches: Callable[[range], Generator[Any, None, None]]
    """The batches of these steps."""
    step: Callable[[Any, int, float], Tensor]
    """Train on a batch, by (batch, step, rate), and return the numbers, on the device."""
    state: Callable[[], dict[str, Any]]
    """Return the state that training goes on from; every process calls it."""
    load: Callable[[dict[str, Any]], None]
    """Take a state back."""
    advice: str
    """Advice for a loss that is not finite, as the end of a message."""
    check: Callable[[], Any] = lambda: None
    """Look at held-out images, and write a row on them."""
    checked: Callable[[dict[str, Any]], bool] = lambda row: False
    """Return True for a row of metrics that such a look wrote."""
    notice: Callable[[int, dict[str, float]], str] = lambda step, row: ""
    """A warning on the numbers of a step, or nothing."""
    keeps_metrics: bool = True
    """Write metrics.jsonl and events."""


class Loop:
    """Trains what it is given, from where the run is."""

    def __init__(
        self, run: Run, plan: TrainingPlan, training: Training, *, device: torch.device
    ) -> None:
        """Bring what is trained to where the run is."""
        self.run, self.plan, self.training, self._device = run, plan, training, device
        self.loss = math.nan
        """The loss of the last step that was reported."""
        run.restore(self._load)

    @contextmanager
    def open(self) -> Iterator[Journal]:
        """Take the folder, and open the journal of what happens inside."""
        run, training = self.run, self.training
        run.claim()
        if run.step:
            say(f"going on from step {run.step} of {self.plan.total_steps}")
        writes = rank() == 0
        self.journal = Journal(
            run.out if training.keeps_metrics and writes else None,
            step=run.step,
            total=self.plan.total_steps,
            label=training.label,
            quiet=not writes,
        )
        try:
            yield self.journal
        finally:
            self.journal.close()

    def train(self) -> None:
        """Train to the end.

        Raises:
            Stopped: a signal asked for it; the state is saved.
            InputError: the loss is not finite, or an image cannot be read.
            OSError: the disk is full; the states saved before are whole.
        """
        run, plan, training = self.run, self.plan, self.training
        lagging, total = Lagging(self._device), plan.total_steps
        batches = training.batches(range(run.step, total))
        # Before the first step, and where a run was stopped between a save and its check.
        if plan.check_due(run.step) and not self.has_checked():
            training.check()
        run.meter.pause()
        with StopSignals() as asked, self.journal.progress, contextlib.closing(batches):
            for batch in run.meter.waiting_for(batches):
                rate = plan.rate(run.step)
                lagging.push((run.step + 1, rate), training.step(batch, run.step, rate))
                run.step += 1
                run.meter.step(plan.batch_size / world_size())
                self._report(lagging.ready())
                stop, check = any_process(bool(asked.signum)), plan.check_due(run.step)
                stop = stop and run.step < total
                if not (stop or check or plan.save_due(run.step)):
                    continue
                self._report(lagging.ready(everything=True))
                # Before the check, which may take longer than a scheduler waits.
                self._save()
                if stop:
                    raise stopped(asked.signum, step=run.step, total=total)
                if check:
                    training.check()
                run.meter.pause()

    def has_checked(self) -> bool:
        """Return True, in all processes, where this step has a row of a look at held-out images."""
        rows = self.journal.rows()
        found = any(row["step"] == self.run.step and self.training.checked(row) for row in rows)
        return bool(from_first(found))

    def write_check(self, numbers: dict[str, Any]) -> None:
        """Write the row of a look at held-out images at this step."""
        step = self.run.step
        self.journal.write({"step": step, "epoch": step / self.plan.steps_per_epoch, **numbers})

    def _report(self, numbers: list[tuple[tuple[int, float], list[float]]]) -> None:
        meter = self.run.meter
        for (step, rate), values in numbers:
            row = dict(zip(self.training.numbers, values, strict=True))
            looked_at = {name: row[name] for name in ("loss", "gradient_norm") if name in row}
            if not all(map(math.isfinite, looked_at.values())):
                listed = ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in looked_at.items())
                raise InputError(
                    f"the loss is not finite at step {step} ({listed}); what was saved before, in "
                    f"{self.run.states.folder}, is untouched; {self.training.advice}"
                )
            self.loss = row["loss"]
            if warning := self.training.notice(step, row):
                say(f"warning: step {step}: {warning}")
            row |= {
                "step": step,
                "epoch": step / self.plan.steps_per_epoch,
                "lr": rate,
                "images_per_second": meter.images_per_second * world_size(),
                "data_wait": meter.data_wait,
                **({"mfu": meter.mfu} if meter.mfu else {}),
            }
            self.journal.step(row, total=self.plan.total_steps, epochs=self.plan.epochs)

    def _load(self, state: dict[str, Any]) -> None:
        self.training.load(state)
        self.loss = state["loss"]

    def _save(self) -> None:
        content = self.training.state()
        self.journal.flush()
        self.run.save({**content, "loss": self.loss})


class Lagging:
    """Numbers of steps on their way to the host, read when they have arrived: a GPU is never waited for
    inside a step. On a CPU they arrive at once."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._waiting: deque[tuple[Any, Tensor, Any]] = deque()

    def push(self, about: Any, values: Tensor) -> None:
        """Start copying the values of a step; `about` comes back with them."""
        if not self._cuda:
            self._waiting.append((about, values, None))
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._waiting.append((about, host, arrived))

    def ready(self, *, everything: bool = False) -> list[tuple[Any, list[float]]]:
        """Return the values that have arrived, oldest first; `everything` waits for the rest."""
        keep = _LAG if self._cuda and not everything else 0
        found = []
        while len(self._waiting) > keep:
            about, host, arrived = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            found.append((about, host.tolist()))
        return found
