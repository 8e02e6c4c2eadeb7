"""Whose folder it is: a run goes on only where the same recipe met the same data."""

import json
from pathlib import Path
from typing import Any

from micl_bench.config import to_dict
from micl_bench.engine.recipe import PretrainRecipe
from micl_bench.errors import InputError
from micl_bench.files import atomic_write


def claim_folder(out: Path, recipe: PretrainRecipe, *, train_digest: str, begun: bool) -> None:
    """Write `recipe.json`, or compare with the one there.

    Args:
        begun: whether there is anything yet that another recipe could spoil.

    Raises:
        InputError: the folder holds a run that computes something else, or on other data.
    """
    path = out / "recipe.json"
    if begun and _claim_in(path) != (recipe.what_is_computed(), train_digest):
        raise InputError(
            f"{out} holds a run of another recipe or other data; give another --out, or remove it"
        )
    content = {"recipe": to_dict(recipe), "train_digest": train_digest}
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())


def _claim_in(path: Path) -> tuple[dict[str, Any], str]:
    """What is computed there, and from what; nothing where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        recipe = content["recipe"].items()
        computed = {key: value for key, value in recipe if PretrainRecipe.computes(key)}
        return computed, content["train_digest"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}, ""
