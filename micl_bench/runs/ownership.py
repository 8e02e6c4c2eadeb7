"""Whose folder it is: a run goes on only where the same recipe met the same data."""

import json
from pathlib import Path
from typing import Any, Protocol

from micl_bench.runtime.config import to_dict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write

_FILE = "recipe.json"
_SHOWN = 3


class Computing(Protocol):
    """A recipe that tells what its result depends on."""

    @staticmethod
    def computes(key: str) -> bool:
        """Whether the result depends on a value; the others may change when a run goes on."""

    def what_is_computed(self) -> dict[str, Any]:
        """All values that the result depends on, as JSON gives them back."""


def require_same_run(out: Path, recipe: Computing, **digests: str) -> None:
    """Raise an InputError where a folder holds a run that computes something else, or from other
    things: `digests` are those of the data that it is trained on and of what it starts from. What is
    evaluated is no part of it: the record names that."""
    found = _claim_in(out / _FILE, recipe)
    if found is None:
        raise InputError(
            f"{out} holds what a run has saved, but {out / _FILE}, which says of what run, is missing "
            f"or damaged; put it back, give another --out, or remove {out} to start over"
        )
    values, then = found
    now = recipe.what_is_computed()
    # Claims of before say what was set, whether it had an effect or not.
    as_set = _computed(json.loads(json.dumps(to_dict(recipe))), recipe)
    others = [
        name
        for name in sorted(values.keys() | now)
        if values.get(name) not in (now.get(name), as_set.get(name))
    ]
    # Of an earlier version, it may name more.
    others += [name.replace("_", " ") for name in digests if then.get(name) != digests[name]]
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


def _claim_in(path: Path, recipe: Computing) -> tuple[dict[str, Any], dict[str, str]] | None:
    """What is computed there, and from what; None where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _computed(content.pop("recipe"), recipe), content
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def _computed(values: dict[str, Any], recipe: Computing) -> dict[str, Any]:
    return {key: value for key, value in values.items() if recipe.computes(key)}
