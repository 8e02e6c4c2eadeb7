"""Recipes: one readable Python file, one frozen dataclass, dotted overrides with known keys and types.

A recipe file assigns `recipe = SomeRecipe(...)`. It is code of the person who runs it, executed as such.
What each value may be is declared at its field (micl_bench/runtime/values.py).
"""

import dataclasses
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.log import printable
from micl_bench.runtime.shipped import recipe_file
from micl_bench.runtime.values import from_text, hints_of, shown

T = TypeVar("T")

_LONGEST_REASON = 200


def load_recipe(given: str | Path, kind: type[T]) -> T:
    """Run a recipe file and return its `recipe`.

    Args:
        given: path of the file, or the name of a recipe that is shipped.

    Raises:
        InputError: there is no such file, it does not run, or its recipe is of another kind.
    """
    path = recipe_file(given)
    try:
        recipe = runpy.run_path(str(path)).get("recipe")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        # A recipe is code: whatever it raises is about the recipe, an unknown key most of all.
        raise InputError(f"{path} does not run: {_reason(error)}") from error
    if not isinstance(recipe, kind):
        raise InputError(
            f"{path} must assign `recipe` a {kind.__name__}, it holds {type(recipe).__name__}"
        )
    return recipe


def override(recipe: T, assignments: Sequence[str]) -> T:
    """Return a copy with `a.b=value` assignments applied; types and bounds are those of the dataclass.

    Raises:
        InputError: an assignment has no `=`, an unknown key (the known ones are listed), a value of
            another type or outside its bounds; or values do not go together.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise InputError(f"--set {shown(assignment)} has no '='; write --set a.b=value")
        *places, name = key.split(".")
        hint = _hint(recipe, key)
        node = changes
        for place in places:
            node = node.setdefault(place, {})
        node[name] = from_text(hint, text, key)
    return _changed(recipe, changes)


def resolve(kind: type[T], given: str | Path | None, assignments: Sequence[str]) -> T:
    """Return the recipe of a file or name, or the kind's default for None, with assignments applied.

    Raises:
        InputError: as `load_recipe` and `override`.
    """
    return override(load_recipe(given, kind) if given else kind(), assignments)


def to_dict(recipe: Any) -> dict[str, Any]:
    """Return a recipe as plain JSON values."""
    return {field.name: _plain(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}


def digest(recipe: Any) -> str:
    """Return the SHA-256 of the resolved recipe, in hex digits."""
    return digest_json(to_dict(recipe))


def _reason(error: BaseException) -> str:
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


def _hint(recipe: Any, key: str) -> Any:
    """The declared type of a dotted key.

    Raises:
        InputError: there is no such key, or it holds keys itself.
    """
    node, hint = recipe, None
    for part in key.split("."):
        hints = hints_of(type(node)) if _is_config(node) else {}
        if part not in hints:
            listed = ", ".join(hints) if hints else "nothing below it"
            raise InputError(f"unknown recipe key: {shown(part)} is not one of: {listed}")
        node, hint = getattr(node, part), hints[part]
    if _is_config(node):
        listed = ", ".join(f"{key}.{name}" for name in hints_of(type(node)))
        raise InputError(f"{key} holds several values; set one of them: {listed}")
    return hint


def _is_config(node: Any) -> bool:
    return dataclasses.is_dataclass(node) and not isinstance(node, type)


def _changed(recipe: Any, changes: dict[str, Any]) -> Any:
    values = {
        name: _changed(getattr(recipe, name), change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return dataclasses.replace(recipe, **values)


def _plain(value: Any) -> Any:
    if _is_config(value):
        return to_dict(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
