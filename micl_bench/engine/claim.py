"""Whose folder it is: a run goes on only where the same recipe met the same data."""

import json
from pathlib import Path
from typing import Any

from micl_bench.config import to_dict
from micl_bench.engine.recipe import PretrainRecipe
from micl_bench.errors import InputError
from micl_bench.files import atomic_write

_FILE = "recipe.json"


def require_same_run(out: Path, recipe: PretrainRecipe, *, train_digest: str) -> None:
    """Raise an InputError where a folder holds a run that computes something else, or on other data."""
    if _claim_in(out / _FILE) != (recipe.what_is_computed(), train_digest):
        raise InputError(
            f"{out} holds a run of another recipe or other data; give another --out, or remove it"
        )


def write_claim(out: Path, recipe: PretrainRecipe, *, train_digest: str) -> None:
    """Say whose folder it is; only who trains in it may."""
    content = {"recipe": to_dict(recipe), "train_digest": train_digest}
    atomic_write(out / _FILE, (json.dumps(content, indent=2) + "\n").encode())


def _claim_in(path: Path) -> tuple[dict[str, Any], str]:
    """What is computed there, and from what; nothing where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        recipe = content["recipe"].items()
        computed = {key: value for key, value in recipe if PretrainRecipe.computes(key)}
        return computed, content["train_digest"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}, ""
