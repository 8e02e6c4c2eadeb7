"""JSON of strangers as dataclasses of ours: every field there, none unknown, each of its type."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

_Check = Callable[[Any, str], Any]
"""Takes a value and its dotted name; gives the value as the dataclass holds it."""


def built(kind: type[T], content: Any, *, place: str = "") -> T:
    """A dataclass from what JSON gave, checked field by field; `list` becomes `tuple` where it says so.

    Args:
        place: dotted name of `content` itself, for messages.

    Raises:
        ValueError: a field is missing, unknown or not of its type; the message names it. Infinity is
            no number, NaN is one: what could not be measured.
    """
    made: T = _check_of(typing.cast(Hashable, kind))(content, place)
    return made


@functools.cache
def _checks_of(kind: Any) -> dict[str, _Check]:
    hints = typing.get_type_hints(kind)
    return {field.name: _check_of(hints[field.name]) for field in dataclasses.fields(kind)}


# A store has thousands of records of one kind: what its fields must be is worked out once.
@functools.cache
def _check_of(hint: Any) -> _Check:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _check_of(arguments[0])
    if hint is Any:
        return _anything
    if origin is typing.Literal:
        return functools.partial(_one_of, arguments)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return functools.partial(_optional, _check_of(inner))
    if origin is dict:
        return functools.partial(_mapping, _check_of(arguments[1]))
    if origin in (list, tuple):
        return functools.partial(_sequence, origin, _check_of(arguments[0]))
    if dataclasses.is_dataclass(hint):
        return functools.partial(
            _fields, typing.cast(type, hint), _checks_of(typing.cast(Hashable, hint))
        )
    return _number if hint is float else functools.partial(_required, hint)


def _anything(value: Any, place: str) -> Any:
    return value


def _optional(check: _Check, value: Any, place: str) -> Any:
    return None if value is None else check(value, place)


def _one_of(allowed: tuple[str, ...], value: Any, place: str) -> Any:
    if value not in allowed or type(value) is not str:
        known = ", ".join(map(repr, allowed))
        raise ValueError(f"{place} is {value!r:.40}; it must be one of {known}")
    return value


def _mapping(check: _Check, value: Any, place: str) -> Any:
    _required(dict, value, place)
    if check is _anything:
        return value
    return {name: check(inner, f"{place}.{name}") for name, inner in value.items()}


def _sequence(kind: type, check: _Check, value: Any, place: str) -> Any:
    parts = enumerate(_required(list, value, place))
    return kind(check(inner, f"{place}[{index}]") for index, inner in parts)


def _fields(kind: type, checks: dict[str, _Check], value: Any, place: str) -> Any:
    if type(value) is not dict:
        raise ValueError(f"{place or 'it'} is {_kind_of(value)}, needed is an object")
    if value.keys() != checks.keys():
        missing = [name for name in checks if name not in value]
        unknown = [str(name) for name in value if name not in checks]
        wrong = f"no {', '.join(missing)}" if missing else f"unknown {', '.join(unknown)}"
        raise ValueError(f"{place + ': ' if place else ''}{wrong}")
    prefix = f"{place}." if place else ""
    return kind(**{name: check(value[name], prefix + name) for name, check in checks.items()})


def _number(value: Any, place: str) -> Any:
    if type(value) is not int and math.isinf(_required(float, value, place)):
        raise ValueError(f"{place} is infinite")
    return value


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
