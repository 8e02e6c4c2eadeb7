"""Whose folder it is: a run goes on only where the same recipe met the same data."""

import json
from pathlib import Path
from typing import Any, ClassVar, Protocol

from micl_bench.runtime.config import to_dict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.values import Values

_FILE = "recipe.json"
_SHOWN = 3


class Computing(Protocol):
    """What tells what a run's result depends on."""

    def what_is_computed(self) -> dict[str, Any]:
        """All values that the result depends on, as JSON gives them back."""


class RunRecipe(Values):
    """Base of the recipes, dataclasses, of runs that go on where they were cut."""

    carried_out: ClassVar[tuple[str, ...]] = ()
    """Keys that say how a run is carried out, not what it computes: these may change when it goes on."""

    def effective(self) -> dict[str, Any]:
        """All values; those that have no effect beside the others are as if they had not been set."""
        return to_dict(self)

    def what_is_computed(self) -> dict[str, Any]:
        """All values that the result depends on, as JSON gives them back."""
        values = json.loads(json.dumps(self.effective()))
        return {key: value for key, value in values.items() if key not in self.carried_out}


def require_same_run(out: Path, recipe: Computing, **digests: str) -> None:
    """Raise an InputError where a folder holds a run that computes something else, or from other
    things: `digests` are those of the data that it is trained on and of what it starts from, empty
    where there is nothing. What is evaluated is no part of it: the record names that."""
    claim = _claim_in(out / _FILE)
    if claim is None:
        raise InputError(
            f"{out} holds what a run has saved, but {out / _FILE}, which says of what run, is missing "
            f"or damaged; put it back, give another --out, or remove {out} to start over"
        )
    now, then = recipe.what_is_computed(), claim["recipe"]
    carried_out = to_dict(recipe).keys() - now
    names = sorted((then.keys() | now) - carried_out)
    others = [name for name in names if then.get(name) != now.get(name)]
    others += [name.replace("_", " ") for name in digests if claim.get(name, "") != digests[name]]
    if others:
        more = ", ..." if len(others) > _SHOWN else ""
        raise InputError(
            f"{out} holds a run of another recipe or other data (what differs: "
            f"{', '.join(others[:_SHOWN])}{more}); give another --out, or remove it"
        )


def write_claim(out: Path, recipe: Computing, **digests: str) -> None:
    """Say whose folder it is; only who trains in it may."""
    content = {"recipe": to_dict(recipe) | recipe.what_is_computed(), **digests}
    atomic_write(out / _FILE, (json.dumps(content, indent=2) + "\n").encode())


def _claim_in(path: Path) -> dict[str, Any] | None:
    """What is computed there, and from what; None where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(content, dict) and isinstance(content.get("recipe"), dict)
    return content if known else None
