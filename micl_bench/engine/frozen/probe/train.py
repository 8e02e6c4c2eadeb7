"""Training a linear probe so that a kill at any moment loses no more than a few steps."""

import contextlib
import dataclasses
from typing import Any

from micl_bench.engine.frozen.probe.batches import FeatureBatches
from micl_bench.engine.frozen.probe.heads import Probe
from micl_bench.records.provenance import Measurement
from micl_bench.runs.signals import StopSignals, stopped
from micl_bench.runs.states import States
from micl_bench.runtime.distributed import any_process, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.locks import alone
from micl_bench.runtime.log import Progress, say

# Reading the loss makes the host wait for the device.
_LOOK_EVERY_STEPS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumption:
    """Where training is saved, how often, and what it is the training of."""

    states: States
    run: str
    """A digest of everything that decides what is computed: another run's states are refused."""
    save_every_steps: int
    measurement: Measurement
    """Whose clock also counts what earlier processes took."""


def train_probe(probe: Probe, batches: FeatureBatches, resumption: Resumption) -> None:
    """Train to the end, from the last saved step on; every process does the same with the same batches.

    Raises:
        Stopped: a signal asked for it; the state is saved.
        InputError: every head diverged, an image cannot be read, the states are another run's, or
            another process trains into the same folder.
        OSError: the disk is full; what was saved before is whole.
    """
    out = resumption.states.folder.parent
    out.mkdir(parents=True, exist_ok=True)
    with alone(out, "training into") if rank() == 0 else contextlib.nullcontext():
        _train(probe, batches, resumption)


def _train(probe: Probe, batches: FeatureBatches, resumption: Resumption) -> None:
    first, total = _restore(probe, resumption), probe.plan.total_steps
    if first:
        say(f"linear probe: going on from step {first} of {total}")
    quiet = rank() > 0
    with (
        StopSignals() as asked,
        Progress("linear probe", total=total, done=first, quiet=quiet) as progress,
        contextlib.closing(batches(range(first, total))) as found,
    ):
        for step, (features, labels_N) in enumerate(found, start=first):
            probe.step(features, labels_N, step=step)
            done = step + 1
            if done % _LOOK_EVERY_STEPS == 0 or done == total:
                progress.step(f"loss {probe.lowest_loss():.3f}")
            else:
                progress.step()
            stop = any_process(bool(asked.signum)) and done < total
            if stop or done == total or done % resumption.save_every_steps == 0:
                probe.require_finite()
                _save(probe, resumption, done)
            if stop:
                raise stopped(asked.signum, step=done, total=total)


def _restore(probe: Probe, resumption: Resumption) -> int:
    state = resumption.states.newest()
    if state is None:
        return 0
    folder = resumption.states.folder
    try:
        if state["run"] != resumption.run:
            raise InputError(
                f"{folder} holds the training of another recipe, checkpoint or data; give another "
                "--out, or remove it"
            )
        probe.load(state)
        resumption.measurement.began(state["start"], spent=state["seconds"])
        return int(state["step"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the state in {folder} does not fit this probe ({reason}); remove it to start over"
        ) from error


def _save(probe: Probe, resumption: Resumption, step: int) -> None:
    if rank() != 0:
        return
    about: dict[str, Any] = {
        "step": step,
        "run": resumption.run,
        "start": resumption.measurement.start,
        "seconds": resumption.measurement.elapsed,
    }
    resumption.states.save(step, {**probe.state(), **about})
