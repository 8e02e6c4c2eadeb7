"""JSON of strangers as dataclasses of ours: every field there, none unknown, each of its type."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Hashable
from typing import Any, TypeVar

T = TypeVar("T")


def built(kind: type[T], content: Any, *, place: str = "") -> T:
    """A dataclass from what JSON gave, checked field by field; `list` becomes `tuple` where it says so.

    Args:
        place: dotted name of `content` itself, for messages.

    Raises:
        ValueError: a field is missing, unknown or not of its type; the message names it. Infinity is
            no number, NaN is one: what could not be measured.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{place or 'it'} is {_kind_of(content)}, needed is an object")
    hints: dict[str, Any] = _hints(typing.cast(Hashable, kind))
    if missing := [name for name in hints if name not in content]:
        raise ValueError(f"{place + ': ' if place else ''}no {', '.join(missing)}")
    if unknown := [str(name) for name in content if name not in hints]:
        raise ValueError(f"{place + ': ' if place else ''}unknown {', '.join(unknown)}")
    prefix = f"{place}." if place else ""
    return kind(
        **{name: _value(hint, content[name], prefix + name) for name, hint in hints.items()}
    )


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _value(hint: Any, value: Any, place: str) -> Any:
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return None if value is None else _value(inner, value, place)
    if origin is dict:
        items = _required(dict, value, place).items()
        return {name: _value(arguments[1], inner, f"{place}.{name}") for name, inner in items}
    if origin in (list, tuple):
        parts = enumerate(_required(list, value, place))
        return origin(_value(arguments[0], inner, f"{place}[{index}]") for index, inner in parts)
    if dataclasses.is_dataclass(hint):
        return built(typing.cast(type, hint), value, place=place)
    if hint is float:
        number = value if type(value) is int else _required(float, value, place)
        if math.isinf(number):
            raise ValueError(f"{place} is infinite")
        return value
    return _required(hint, value, place)


def _required(kind: type, value: Any, place: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{place} is {_kind_of(value)}, needed is {_KINDS[kind]}")
    return value


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _kind_of(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)
