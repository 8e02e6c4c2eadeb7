"""`a.b=value` on an mmengine config: a key that is there, a value of the kind that it has."""

import ast
import contextlib
import math
from typing import Any

from mmengine.config import Config

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Amount, Count, Seed, Side, Workers, checked, from_text, shown

_BOUNDS: dict[str, Any] = {
    "train_dataloader.batch_size": Count,
    "train_dataloader.num_workers": Workers,
    "val_dataloader.batch_size": Count,
    "val_dataloader.num_workers": Workers,
    "auto_scale_lr.base_batch_size": Count,
    "optim_wrapper.accumulative_counts": Count,
    "train_cfg.max_iters": Count,
    "train_cfg.max_epochs": Count,
    "train_cfg.val_interval": Count,
    "model.backbone.img_size": Side,
    "model.backbone.window_size": Amount,
    "randomness.seed": Seed,
}
_LONGEST_TEXT = 1000
# Names of a config that fit on a line.
_SHOWN = 12


def apply(config: Config, override: str) -> None:
    """Set one value.

    Raises:
        InputError: no `=`, an unknown key, or a value of another kind than the one that is there.
    """
    key, equals, text = override.partition("=")
    if not equals:
        raise InputError(f"override {shown(override)} is not of the form a.b=value")
    node: Any = config
    for number, part in enumerate(parts := key.split(".")):
        known = _children(node)
        if part not in known:
            place = ".".join(parts[:number]) or "the config"
            raise InputError(f"{place} has no {shown(part)}{_there(known)}")
        holder, node = node, node[int(part)] if isinstance(node, list) else node[part]
    value = _value(key, node, text)
    if node is None or value is None:
        # mmengine merges a dict into a dict only.
        holder[int(part) if isinstance(holder, list) else part] = value
    else:
        config.merge_from_dict({key: value})


def check_bounds(config: Config) -> None:
    """Raise an InputError for sizes and counts below their minimum, whoever wrote them."""
    for key, hint in _BOUNDS.items():
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict | Config) else None
        if node is not None:
            checked(hint, node, key)


def _children(node: Any) -> list[str]:
    if isinstance(node, list):
        return [str(index) for index in range(len(node))]
    return list(node.keys()) if isinstance(node, dict | Config) else []


def _there(known: list[str]) -> str:
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"; it has {', '.join(map(str, known[:_SHOWN]))}{more}" if known else ""


def _value(key: str, old: Any, text: str) -> Any:
    """The value that a text stands for in the place of an old one.

    Raises:
        InputError: it is of another kind.
    """
    if len(text) > _LONGEST_TEXT:
        raise InputError(f"{key} is a text of {len(text):,} characters; give a shorter value")
    if text == "None":
        return None
    if isinstance(old, bool):
        return from_text(bool, text, key)
    value: Any = text
    # A text that is nested too deeply is no literal of a config either.
    with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = ast.literal_eval(text)
    if not _is_finite(value):
        raise InputError(f"{key} is {shown(text)}; needed: finite numbers")
    needed = ""
    if isinstance(old, dict) and not isinstance(value, dict):
        needed = f"one of its values set{_there(_children(old))}"
    elif isinstance(old, list | tuple) and not isinstance(value, list | tuple):
        needed = "several values in brackets"
    elif isinstance(old, int | float) and not isinstance(value, int | float | list | tuple):
        needed = "a finite number"
    elif isinstance(value, bool) and isinstance(old, int | float):
        needed = "a number"
    if needed:
        raise InputError(f"{key} is {shown(value)}; needed: {needed}")
    return value


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
