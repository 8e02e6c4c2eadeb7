"""One run's folder: whose it is, the state to go on from, and the time that all its parts took."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micl_bench.records.provenance import Measurement
from micl_bench.runs.meter import Meter
from micl_bench.runs.ownership import Computing, require_same_run, write_claim
from micl_bench.runs.states import States
from micl_bench.runtime.distributed import from_first, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import sweep
from micl_bench.runtime.locks import alone


@dataclasses.dataclass(frozen=True)
class Spent:
    """Time of a run, all its parts together, in seconds; what a kill undid is not in it."""

    seconds: float = 0.0
    training: float = 0.0
    """Without checks and saves."""
    device_seconds: float = 0.0
    """Seconds times the devices that were in use, which may have changed in between."""


class Run:
    """A run that is cut and goes on: `step` says how far it is."""

    def __init__(
        self,
        out: Path,
        recipe: Computing,
        *,
        digests: dict[str, str],
        measurement: Measurement,
        finished: bool = False,
    ) -> None:
        """Look for a state to go on from.

        Args:
            digests: of what it is trained on and starts from, by name.
            measurement: whose clock goes on from the time that earlier processes took.
            finished: the folder holds what a run ends with, states or none.

        Raises:
            InputError: the folder holds a run of something else, or states that are all damaged.
        """
        self.out, self.measurement, self.meter = out, measurement, Meter()
        self._recipe, self._digests = recipe, digests
        self.states = States(out / "states")
        # Before anything is saved there is nothing that another recipe could spoil.
        if finished or self.states.exist():
            require_same_run(out, recipe, **digests)
        self.step, self._before = 0, Spent()
        self.state = self.states.newest()
        """What `restore` gives on; None where there is nothing to go on from."""
        if self.state is not None:
            with self._fitting():
                self.step, self._before = self.state["step"], Spent(**self.state["spent"])
                measurement.began(self.state["start"], spent=self._before.seconds)

    def restore(self, load: Callable[[dict[str, Any]], None]) -> None:
        """Let what is trained load the state, if there is one.

        Raises:
            InputError: it does not fit.
        """
        state, self.state = self.state, None
        if state is not None:
            with self._fitting():
                load(state)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training into the folder, which is made.

        Raises:
            InputError: one is at it.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with alone(self.out, "training into") if rank() == 0 else contextlib.nullcontext():
            sweep(self.out)
            yield

    def claim(self) -> None:
        """Say whose folder it is."""
        if rank() == 0:
            write_claim(self.out, self._recipe, **self._digests)

    def save(self, content: dict[str, Any]) -> None:
        """Write a state; the first process does, and all raise what it raises.

        Raises:
            OSError: the disk is full; the states saved before are whole.
        """
        problem = ""
        if rank() == 0:
            about = {"step": self.step, "start": self.measurement.start}
            try:
                spent = dataclasses.asdict(self.spent)
                self.states.save(self.step, {**content, **about, "spent": spent})
            except OSError as error:
                problem = str(error)
        if problem := from_first(problem):
            raise OSError(problem)

    @property
    def spent(self) -> Spent:
        """Time so far, of all parts of the run."""
        seconds, before = self.measurement.elapsed, self._before
        own = seconds - before.seconds
        return Spent(
            seconds=seconds,
            training=before.training + self.meter.busy_seconds,
            device_seconds=before.device_seconds + own * world_size(),
        )

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"the state in {self.states.folder} does not fit this run ({reason}); remove it to "
                "start over"
            ) from error
