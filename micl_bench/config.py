"""Recipes: one readable Python file, one frozen dataclass, dotted overrides with known keys and types.

A recipe file assigns `recipe = SomeRecipe(...)`. It is code of the person who runs it, executed as such.
"""

import dataclasses
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from micl_bench.errors import InputError
from micl_bench.files import digest_json

T = TypeVar("T")


def load_recipe(path: Path, kind: type[T]) -> T:
    """Run a recipe file and return its `recipe`.

    Raises:
        InputError: no such file, it does not run, or its recipe is of another kind.
    """
    if not path.is_file():
        raise InputError(f"no recipe file at {path}; ready ones are in pretrain/ and downstream/")
    try:
        recipe = runpy.run_path(str(path)).get("recipe")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        # A recipe is code: whatever it raises is about the recipe, an unknown key most of all.
        raise InputError(f"{path} does not run: {error}") from error
    if not isinstance(recipe, kind):
        raise InputError(
            f"{path} must assign `recipe` a {kind.__name__}, it holds {type(recipe).__name__}"
        )
    return recipe


def override(recipe: T, assignments: Sequence[str]) -> T:
    """A copy with `a.b=value` assignments applied; types are those of the dataclass.

    Raises:
        InputError: no `=`, an unknown key (the known ones are listed), or a value of another type.
    """
    try:
        config = OmegaConf.structured(recipe)
    except OmegaConfBaseException as error:
        raise InputError(f"the recipe holds a wrong value: {str(error).splitlines()[0]}") from error
    _unlock(config)
    for assignment in assignments:
        key, separator, _ = assignment.partition("=")
        if not separator:
            raise InputError(f"--set {assignment!r} has no '='; write --set a.b=value")
        if "${" in assignment:
            raise InputError(f"--set {assignment!r} refers to another value; give the value itself")
        _require_key(recipe, key)
        try:
            config = OmegaConf.merge(config, OmegaConf.from_dotlist([assignment]))
        except (OmegaConfBaseException, YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"--set {assignment}: {reason}") from error
    # Not OmegaConf's own conversion, which turns tuples into lists.
    return _rebuild(recipe, OmegaConf.to_container(config))


def to_dict(recipe: Any) -> dict[str, Any]:
    """A recipe as plain JSON values."""
    content = OmegaConf.to_container(OmegaConf.structured(recipe))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def digest(recipe: Any) -> str:
    """SHA-256 of the resolved recipe."""
    return digest_json(to_dict(recipe))


def _require_key(recipe: Any, key: str) -> None:
    node = recipe
    for part in key.split("."):
        known = [field.name for field in dataclasses.fields(node)] if _is_config(node) else []
        if part not in known:
            listed = ", ".join(known) if known else "nothing below it"
            raise InputError(f"unknown recipe key {key!r}: {part!r} is not one of: {listed}")
        node = getattr(node, part)


def _is_config(node: Any) -> bool:
    return dataclasses.is_dataclass(node) and not isinstance(node, type)


def _unlock(config: DictConfig) -> None:
    # OmegaConf marks every level of frozen dataclasses read-only, and merge lifts only the top one.
    OmegaConf.set_readonly(config, False)
    for key in config:
        if isinstance(node := config[key], DictConfig):
            _unlock(node)


def _rebuild(recipe: Any, content: Any) -> Any:
    values = {}
    for field in dataclasses.fields(recipe):
        old, new = getattr(recipe, field.name), content[field.name]
        if _is_config(old):
            new = _rebuild(old, new)
        elif isinstance(old, tuple):
            new = tuple(new)
        values[field.name] = new
    return type(recipe)(**values)
