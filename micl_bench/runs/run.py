"""One run's folder: whose it is, the state to go on from, and the time that all its parts took."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from micl_bench.records.provenance import Measurement
from micl_bench.runs.meter import Meter
from micl_bench.runs.states import States
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.distributed import from_first, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write, sweep
from micl_bench.runtime.locks import alone
from micl_bench.runtime.values import Values

_CLAIM = "recipe.json"
_SHOWN = 3


class Computing(Protocol):
    """A recipe, or anything else that states what a run's result depends on."""

    def what_is_computed(self) -> dict[str, Any]:
        """Return all values that the result depends on, as JSON gives them back."""


class RunRecipe(Values):
    """Base of the recipes, dataclasses, of runs that go on where they were cut."""

    carried_out: ClassVar[tuple[str, ...]] = ()
    """Keys that say how a run is carried out, not what it computes: these may change when it goes on."""

    def effective(self) -> dict[str, Any]:
        """All values; those that have no effect beside the others are as if they had not been set."""
        return to_dict(self)

    def what_is_computed(self) -> dict[str, Any]:
        """Return all values that the result depends on, as JSON gives them back."""
        values = json.loads(json.dumps(self.effective()))
        return {key: value for key, value in values.items() if key not in self.carried_out}


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
            digests: of what it is trained on and starts from, by name; empty where there is nothing.
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
            self._require_same()
        self.step, self._before = 0, Spent()
        self.state = self.states.newest()
        """The state for `restore`; None where there is nothing to go on from."""
        if self.state is not None:
            with self._fitting():
                self.step, self._before = self.state["step"], Spent(**self.state["spent"])
                measurement.began(self.state["start"], spent=self._before.seconds)

    def restore(self, load: Callable[[dict[str, Any]], None]) -> None:
        """Let what is trained load the state, if there is one."""
        state, self.state = self.state, None
        if state is not None:
            with self._fitting():
                load(state)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training into the folder, which is made."""
        self.out.mkdir(parents=True, exist_ok=True)
        with alone(self.out, "training into") if rank() == 0 else contextlib.nullcontext():
            sweep(self.out)
            yield

    def claim(self) -> None:
        """Say whose folder it is; only who trains in it may."""
        if rank() == 0:
            recipe = to_dict(self._recipe) | self._recipe.what_is_computed()
            content = json.dumps({"recipe": recipe, **self._digests}, indent=2)
            atomic_write(self.out / _CLAIM, f"{content}\n".encode())

    def _require_same(self) -> None:
        """Raise an InputError where the folder holds a run that computes something else, or from other
        things. What is evaluated is no part of it: the record names that."""
        path = self.out / _CLAIM
        try:
            claim = json.loads(path.read_text(encoding="utf-8"))
            then = dict[str, Any](claim["recipe"])
        except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.out} holds what a run has saved, but {path}, which says of what run, is missing "
                f"or damaged; put it back, give another --out, or remove {self.out} to start over"
            ) from error
        now = self._recipe.what_is_computed()
        carried_out = to_dict(self._recipe).keys() - now
        names = sorted((then.keys() | now) - carried_out)
        others = [name for name in names if then.get(name) != now.get(name)]
        others += [
            name.replace("_", " ")
            for name, digest in self._digests.items()
            if claim.get(name, "") != digest
        ]
        if others:
            more = ", ..." if len(others) > _SHOWN else ""
            raise InputError(
                f"{self.out} holds a run of another recipe or other data (what differs: "
                f"{', '.join(others[:_SHOWN])}{more}); give another --out, or remove it"
            )

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
