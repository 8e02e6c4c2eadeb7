"""The saved state of a run, from which it goes on where it was cut.

A state holds weights, optimiser (with the loss scaler), schedulers, what hooks such as EMA add to
mmengine's checkpoints, the number of iterations and the time spent. Order of images and every draw are
functions of seed and step (`loops`, `sampling`), so no generator is in it. It is read weights-only;
mmengine's own checkpoints would be unpickled.
"""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import register_after_fork
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner

from micl_bench.data.workers import begin_worker
from micl_bench.openmmlab.precision import MiCLPrecision
from micl_bench.openmmlab.vit import unwrapped
from micl_bench.records.provenance import Measurement
from micl_bench.runs.run import Run
from micl_bench.runs.signals import StopSignals, stopped
from micl_bench.runtime.distributed import any_process, rank
from micl_bench.runtime.files import atomic_path
from micl_bench.runtime.log import MetricLog


@dataclasses.dataclass(frozen=True)
class Identity:
    """The run: the part of a config that moves its number, its seed, and the images of a step."""

    settings: dict[str, Any]
    seed: int
    batch: int

    def what_is_computed(self) -> dict[str, Any]:
        """All values, as `RunRecipe.what_is_computed`."""
        return dataclasses.asdict(self)


class Keeper:
    """Keeps the states of one run in `folder/states`."""

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        *,
        passes: int,
        measurement: Measurement,
        **digests: str,
    ) -> None:
        """Look for a state to go on from; `passes` are iterations of one update of the weights, between
        which there is nothing to keep.

        Raises:
            InputError: the folder holds states of another run, or all of them are damaged.
        """
        self.folder, self.signals = folder, StopSignals()
        self.run = Run(folder, identity, digests=digests, measurement=measurement)
        self.step = self._kept = self.run.step
        self.precision: str = (self.run.state or {}).get("precision", "")
        """The precision of the steps before."""
        self.every, self.at_end = 0, False
        """Iterations between saves, 0 for none; whether to save after the last one. A signal always
        makes one."""
        self.log: MetricLog | None = None
        self._passes = passes

    def restore(self, runner: Runner) -> None:
        """Bring a runner whose parts are built to where the run was."""

        def load(state: dict[str, Any]) -> None:
            # By it hooks distinguish a run that goes on from one that loads weights.
            runner._resume = True
            runner.call_hook("after_load_checkpoint", checkpoint=state)
            unwrapped(runner.model).load_state_dict(state["state_dict"])
            runner.optim_wrapper.load_state_dict(state["optimizer"])
            for name, schedulers in _schedulers(runner).items():
                for scheduler, values in zip(schedulers, state["schedulers"][name], strict=True):
                    scheduler.load_state_dict(values)

        self.run.restore(load)

    def after_step(self, runner: Runner) -> None:
        """Save where it is due, or where a signal came.

        Raises:
            Stopped: a signal asked for it; the state is saved.
            OSError: the disk is full; the states saved before are whole.
        """
        self.step, total = runner.iter, runner.max_iters
        last = self.step == total
        stop = any_process(bool(self.signals.signum)) and not last
        if self.step % self._passes and not last:
            return
        if stop or (self.at_end if last else self.every and self.step % self.every == 0):
            self._save(runner)
        if stop:
            raise stopped(self.signals.signum, step=self.step, total=total)

    def leave_if_asked(self, runner: Runner) -> None:
        """End an evaluation at a signal, where the step before it is saved.

        Raises:
            Stopped: it is.
        """
        if self._kept == self.step and any_process(bool(self.signals.signum)):
            raise stopped(self.signals.signum, step=self.step, total=runner.max_iters)

    def _save(self, runner: Runner) -> None:
        """Write a state; the first process does, and all raise what it raises."""
        if self.log:
            self.log.flush()
        self.run.step = self.step
        self.run.save(self._content(runner) if rank() == 0 else {})
        self._kept = self.step

    def _content(self, runner: Runner) -> dict[str, Any]:
        # Under mmengine's names, which its hooks read and add to.
        state = {
            "state_dict": dict(unwrapped(runner.model).state_dict()),
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": {
                name: [scheduler.state_dict() for scheduler in schedulers]
                for name, schedulers in _schedulers(runner).items()
            },
        }
        runner.call_hook("before_save_checkpoint", checkpoint=state)
        seen = [hook.seen for hook in runner.hooks if isinstance(hook, MiCLPrecision) and hook.seen]
        return {**state, "precision": seen[0] if seen else self.precision}

    def keep_model(self, runner: Runner, config: dict[str, Any]) -> Path:
        """Write the model that was evaluated (an average of weights, where a hook makes one), to be
        read weights-only, with its config."""
        path = self.folder / "model.pt"
        if rank() == 0:
            state = {"state_dict": dict(unwrapped(runner.model).state_dict())}
            runner.call_hook("before_save_checkpoint", checkpoint=state)
            # Given a name, torch would write it into the file.
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                torch.save({"state_dict": dict(state["state_dict"]), "config": config}, file)
        return path

    @contextmanager
    def losses(self) -> Iterator[None]:
        """Let the first process write its losses; those of steps that a kill undid go."""
        if rank() > 0:
            yield
            return
        first = self.step + 1 if self.step else 0
        self.log = MetricLog(self.folder / "metrics.jsonl", first_step=first)
        try:
            yield
        finally:
            self.log.close()

    def finish(self) -> None:
        """Remove the states of a run that came to its end."""
        if rank() == 0:
            shutil.rmtree(self.run.states.folder, ignore_errors=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training into the folder, which then is this run's.

        What a run wrote that failed in its first step or before is removed.

        Raises:
            InputError: one is at it.
        """
        folder = self.folder
        before = set(folder.iterdir()) if folder.exists() else set()
        training, started = _Training(), False
        try:
            with self.run.alone():
                started = True
                self.run.claim()
                register_after_fork(training, _Training.in_loader)
                yield
        except Exception:
            if started and rank() == 0 and not (self.step or self.run.states.exist()):
                for path in set(folder.iterdir()) - before:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                # Another process of this run may have made it before this one looked.
                if not before:
                    folder.rmdir()
            raise


class _Training:
    """While it lives, processes that are forked are the loader's."""

    def in_loader(self) -> None:
        """End with the parent, whose lock the process would hold else."""
        begin_worker()


def _schedulers(runner: Runner) -> dict[str, list[Any]]:
    """The schedulers by the name of their optimiser, which is empty for one alone."""
    found = runner.param_schedulers
    return found if isinstance(found, dict) else {"": list(found or [])}
