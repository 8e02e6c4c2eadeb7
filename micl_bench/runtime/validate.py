"""The validator of all JSON and YAML that strangers write: it becomes dataclasses with declared types.

A fault is named by its path from the top of the document, `$.data.images`, with what was given and what
is needed, in one line. Keys that are not declared are refused; one that is left out has its default.
"""

import dataclasses
import itertools
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable
from micl_bench.runtime.values import hints_of, shown

T = TypeVar("T")

# Control characters, and those that hide or turn round what stands beside them.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
Line = Annotated[
    str,
    msgspec.Meta(
        max_length=200,
        pattern=rf"\A[^{_HIDDEN}]*\Z",
        description="one line of at most 200 printable characters",
    ),
]
Sha256 = Annotated[
    str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z", description="a SHA-256 in 64 hex digits")
]

_LARGEST_BYTES = 1 << 26
_LARGEST_WHOLE = 1 << 63
_DEEPEST = 64
_LONGEST_LINE, _LAST_PART = 300, 90
_LONGEST_KEY, _MOST_KEYS = 40, 12
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
    list: "a list",
    tuple: "a list",
}


def read_json(path: Path, kind: type[T], *, most: int = _LARGEST_BYTES) -> T:
    """Read a JSON file as a value of a type, such as a dataclass.

    Args:
        most: the largest size in bytes; a larger file is not opened.

    Raises:
        InputError: it cannot be read, or is not of the type; the message names the file.
    """
    try:
        if path.stat().st_size > most:
            raise InputError(f"it has more than {most:,} bytes")
        return built(kind, parsed(path.read_bytes()))
    except (OSError, InputError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(one_line(f"{path}: {reason}")) from error


def parsed(text: bytes | str) -> Any:
    """Read a JSON text: None, bool, int, float, str, and lists and dictionaries of them.

    Raises:
        InputError: it is not valid JSON, or more than `require_plain` allows.
    """
    try:
        content = msgspec.json.decode(text)
    except RecursionError as error:
        raise InputError(f"it is nested more than {_DEEPEST} levels deep") from error
    except (msgspec.DecodeError, UnicodeError, TypeError) as error:
        place = re.search(r"\(byte (\d+)\)", str(error))
        raw = text.encode(errors="replace") if isinstance(text, str) else text
        at = int(place[1]) if place else len(raw)
        near = raw[at : at + 20].decode(errors="replace")
        where = f" at byte {at}: {shown(near)}" if near else ""
        raise InputError(f"it is not valid JSON{where}") from error
    require_plain(content)
    return content


def require_plain(content: Any, place: str = "$") -> None:
    """Raise an InputError of what JSON cannot hold, or no reader can walk through.

    NaN, infinity, a whole number of more than 64 bits, an object, more than 64 levels.
    """
    if flaw := _flaw(content):
        raise InputError(one_line(f"{place}{flaw[0]} {flaw[1]}"))


def built(kind: type[T], content: Any, place: str = "$") -> T:
    """Return parsed JSON or YAML as a value of a type; lists become tuples where it says so.

    Args:
        place: the path of `content` itself, for messages.

    Raises:
        InputError: something in it is not as declared, or is not declared at all.
    """
    try:
        made = msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise InputError(one_line(_fault(kind, content, place, error))) from error
    if flaw := _undeclared(made, content):
        raise InputError(one_line(f"{place}{flaw[0]} {flaw[1]}"))
    return made


def one_line(text: str) -> str:
    """Return a message as one printable line of at most 300 characters."""
    line = printable(" ".join(text.split()))
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE - _LAST_PART - 5]} ... {line[-_LAST_PART:]}"
    return line


Flaw = tuple[str, str]
"""The path from the top of the value, and what is wrong there."""


def _flaw(value: Any, depth: int = 0) -> Flaw | None:
    """Find a value on which a reader of the document would fail."""
    if type(value) is int and abs(value) >= _LARGEST_WHOLE:
        return "", "is a whole number of more than 64 bits"
    if type(value) is float and not math.isfinite(value):
        return "", f"is {value}, which is no number"
    if not isinstance(value, dict | list | tuple):
        is_plain = value is None or isinstance(value, str | int | float)
        named = f"is of the type {type(value).__name__}, which JSON does not know"
        return None if is_plain else ("", named)
    if depth == _DEEPEST:
        return "", f"is nested more than {_DEEPEST} levels deep"
    if isinstance(value, dict) and (odd := [key for key in value if not isinstance(key, str)]):
        return "", f"has the key {shown(odd[0])}, which is no text"
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if type(inner) is not str and (found := _flaw(inner, depth + 1)):
            return _step(key) + found[0], found[1]
    return None


def _undeclared(made: Any, content: Any) -> Flaw | None:
    """Find a key that no dataclass within `made` declares."""
    # What may be anything is the very object that was given.
    if made is content:
        return None
    pairs: Iterable[tuple[Any, Any, Any]]
    if isinstance(made, dict):
        pairs = ((key, one, content[key]) for key, one in made.items())
    elif isinstance(made, list | tuple):
        pairs = zip(itertools.count(), made, content, strict=False)
    elif dataclasses.is_dataclass(made) and isinstance(content, dict):
        names = hints_of(type(made))
        if unknown := [str(key)[:_LONGEST_KEY] for key in content if key not in names]:
            return "", f"has {', '.join(unknown[:_MOST_KEYS])}; known: {', '.join(sorted(names))}"
        pairs = ((name, getattr(made, name), one) for name, one in content.items())
    else:
        return None
    for key, inner, given in pairs:
        if inner is not given and (found := _undeclared(inner, given)):
            return _step(key) + found[0], found[1]
    return None


def _fault(hint: Any, value: Any, place: str, error: Exception) -> str:
    """Name the innermost value that is not as declared, in words."""
    for step, inner, one in _inside(hint, value):
        try:
            msgspec.convert(one, inner)
        except msgspec.ValidationError as deeper:
            return _fault(inner, one, place + step, deeper)
    if error.__cause__:
        # Of a dataclass's own check.
        return f"{place}: {error.__cause__}"
    kind = _unwrapped(hint)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        needed = [field.name for field in dataclasses.fields(kind) if _is_needed(field)]
        missing = [name for name in needed if name not in value]
        return f"{place} has no {', '.join(missing)}"
    return f"{place} is {shown(value)}; needed: {_needed(hint)}"


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _inside(hint: Any, value: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield each value directly inside of one: its step of the path, its declared type, and itself."""
    kind = _unwrapped(hint)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, dict) and dataclasses.is_dataclass(kind):
        for name, inner in hints_of(kind).items():
            if name in value:
                yield _step(name), inner, value[name]
    elif isinstance(value, dict) and origin is dict:
        for key, one in value.items():
            yield _step(key), arguments[1], one
    elif isinstance(value, list) and origin in (list, tuple):
        several = origin is list or arguments[-1] is Ellipsis
        kinds = itertools.repeat(arguments[0]) if several else arguments
        for number, (inner, one) in enumerate(zip(kinds, value, strict=False)):
            yield _step(number), inner, one


def _unwrapped(hint: Any) -> Any:
    """Return a type without its bounds, and without null beside it."""
    if typing.get_origin(hint) is Annotated:
        return _unwrapped(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [one for one in typing.get_args(hint) if one is not types.NoneType]
        return _unwrapped(inner[0]) if len(inner) == 1 else hint
    return hint


def _step(key: str | int) -> str:
    """Return a step of a path, into a mapping or into a list."""
    return f"[{key}]" if isinstance(key, int) else f".{key[:_LONGEST_KEY]}"


def _needed(hint: Any) -> str:
    """Return a declared type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        described = [one.description for one in hint.__metadata__ if isinstance(one, msgspec.Meta)]
        return described[0] if described and described[0] else _needed(arguments[0])
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_needed, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} values"
    return _WORDS.get(origin or hint, "a mapping of names to values")
