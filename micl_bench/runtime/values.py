"""Values with a declared type and bounds, checked in one way wherever they come from.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Pixels(Values):
        img_size: Annotated[int, Within(1, 4096)] = 224

A value from Python and one from a command line meet the same type and the same bounds, and are refused
in the same words: `img_size is 0; needed: from 1 to 4,096`.
"""

import dataclasses
import functools
import math
import re
import reprlib
import types
import typing
import unicodedata
from typing import Annotated, Any, Literal

from micl_bench.runtime.errors import InputError

LARGEST = (1 << 31) - 1
"""The largest number of anything: a larger one is a mistake, and overflows counters of libraries."""

# A value is shown, not repeated: the whole line stays short.
_LONGEST_SHOWN = 60
_LONGEST_TEXT = 1000
_WHOLE = re.compile(r"[+-]?\d(_?\d){0,40}")
_TRUTHS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_CATEGORIES_OF_NO_TEXT = ("Cc", "Cs")


@dataclasses.dataclass(frozen=True)
class Within:
    """Bounds of a number; `above` and `below` are not reached, `least` and `most` may be."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def allows(self, value: Any) -> bool:
        """Return True where a number lies within the bounds."""
        low = self.least is None or value >= self.least
        low = low and (self.above is None or value > self.above)
        high = self.most is None or value <= self.most
        return low and high and (self.below is None or value < self.below)

    def needed(self, value: Any) -> str:
        """Return in words what is allowed, for a value that is not."""
        if self.least is not None and self.most is not None:
            if self.most >= LARGEST and value < self.least:
                return f"{_number(self.least)} or more"
            return f"from {_number(self.least)} to {_number(self.most)}"
        low = [f"above {_number(self.above)}"] if self.above is not None else []
        low += [f"at least {_number(self.least)}"] if self.least is not None else []
        high = [f"below {_number(self.below)}"] if self.below is not None else []
        high += [f"at most {_number(self.most)}"] if self.most is not None else []
        return " and ".join(low + high)


@dataclasses.dataclass(frozen=True)
class Listed:
    """Bounds of a list: its smallest length, and whether each value may stand only once."""

    least: int = 1
    once: bool = False

    def allows(self, value: Any) -> bool:
        """Return True where a list lies within the bounds."""
        return len(value) >= self.least and not (self.once and len(set(value)) < len(value))

    def needed(self, value: Any) -> str:
        """Return in words what is allowed, for a list that is not."""
        few = len(value) < self.least
        return f"{self.least} or more values in brackets" if few else "each value once"


Count = Annotated[int, Within(1, LARGEST)]
"""One or more."""
Amount = Annotated[int, Within(0, LARGEST)]
"""Zero or more."""
Seed = Annotated[int, Within(0, (1 << 63) - 1)]
Workers = Annotated[int, Within(0, 1024)]
"""Processes beside this one; a mistyped number must not fill the machine with them."""
Side = Annotated[int, Within(1, 4096)]
"""Pixels of a side of a network's input."""
SideOrOwn = Annotated[int, Within(0, 4096)]
"""Pixels of a side of a network's input; 0 for the network's own."""
Positive = Annotated[float, Within(1e-12, 1e38)]
"""Above 0, and a number in fp32 as well, its inverse too."""
NotNegative = Annotated[float, Within(0, 1e12)]
Probability = Annotated[float, Within(0, 1)]
Fraction = Annotated[float, Within(above=0, most=1)]
Precision = Literal["fp32", "bf16"]


class Values:
    """A dataclass whose fields are checked, and brought to their declared type, when it is made."""

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self)).items():
            given = getattr(self, name)
            if (value := checked(hint, given, name)) is not given:
                object.__setattr__(self, name, value)


def hints_of(kind: Any) -> dict[str, Any]:
    """Return the declared type of each field of a dataclass, with its bounds."""
    return _hints(kind)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def checked(hint: Any, value: Any, name: str) -> Any:
    """Return a value in its declared type: whole numbers become float, lists become tuples.

    Args:
        name: the value's name, for the message.

    Raises:
        InputError: it has another type, or lies outside its bounds.
    """
    hint, bounds = _parts(hint)
    value = _typed(hint, value, name)
    for bound in bounds if value is not None else ():
        if not bound.allows(value):
            raise wrong(name, value, bound.needed(value))
    return value


def from_text(hint: Any, text: str, name: str) -> Any:
    """Read a value as it was typed, `0.1`, `true`, `[10,20]` or `avg`, and check it.

    Raises:
        InputError: as `checked`.
    """
    if len(text) > _LONGEST_TEXT:
        raise wrong(name, f"a text of {len(text):,} characters", "a shorter value", quoted=False)
    return checked(hint, _read(_parts(hint)[0], text.strip(), name), name)


def wrong(name: str, value: Any, needed: str, *, quoted: bool = True) -> InputError:
    """Return the error of a value that is not allowed."""
    return InputError(f"{name} is {shown(value) if quoted else value}; needed: {needed}")


def shown(value: Any) -> str:
    """Return a value for a message, in one line of at most sixty characters."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of about {round(value.bit_length() * math.log10(2)):,} digits"
    if isinstance(value, str):
        # As it was typed, if it is short.
        text = repr(value[: _LONGEST_SHOWN + 1])
    else:
        text = " ".join(_repr.repr(value).split())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


_repr = reprlib.Repr()
_repr.maxtuple = _repr.maxlist = 4
_repr.maxstring = _repr.maxother = _LONGEST_SHOWN


def _number(value: float | None) -> str:
    assert value is not None
    if value == (1 << 63) - 1:
        return "2^63 - 1"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A declared type, and its bounds."""
    if typing.get_origin(hint) is Annotated:
        return hint.__origin__, hint.__metadata__
    return hint, ()


def _typed(hint: Any, value: Any, name: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
        return None if value is None else checked(inner, value, name)
    if origin is tuple:
        return _tuple(hint, value, name)
    if origin is Literal:
        if not any(value is one or value == one for one in typing.get_args(hint)):
            raise wrong(name, value, _needed(hint))
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return value if isinstance(value, float) else number
    elif hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    elif hint is str and isinstance(value, str):
        if not any(unicodedata.category(letter) in _CATEGORIES_OF_NO_TEXT for letter in value):
            return value
    elif hint not in (int, float, str) and isinstance(value, hint):
        return value
    raise wrong(name, value, _needed(hint))


def _tuple(hint: Any, value: Any, name: str) -> Any:
    if not isinstance(value, list | tuple):
        raise wrong(name, value, _needed(hint))
    places = typing.get_args(hint)
    if places[-1] is Ellipsis:
        places = (places[0],) * len(value)
    if len(value) != len(places):
        raise wrong(name, value, _needed(hint))
    found = tuple(
        checked(place, one, f"a value of {name}") for place, one in zip(places, value, strict=True)
    )
    same = isinstance(value, tuple) and all(a is b for a, b in zip(value, found, strict=True))
    return value if same else found


def _needed(hint: Any) -> str:
    """A declared type in words."""
    hint = _parts(hint)[0]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin is tuple:
        several = inner[-1] is Ellipsis
        number = "values" if several else f"{len(inner)} values"
        return f"{number} in brackets, each {_needed(inner[0])}: [a,b{',...' if several else ''}]"
    words = {
        int: "a whole number",
        float: "a finite number",
        str: "text without control characters",
    }
    words[bool] = "true or false"
    return words.get(hint) or f"a {getattr(hint, '__qualname__', hint)}"


def _read(hint: Any, text: str, name: str) -> Any:
    """Read a text by the declared type; one that does not fit stays text, and is refused later."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() in ("none", "null", ""):
            return None
        return _read(_parts(inner[0])[0], text, name)
    if origin is tuple:
        return _list(inner, text, name) if text[:1] + text[-1:] in ("[]", "()") else text
    if hint is bool:
        return _TRUTHS.get(text.lower(), text)
    if hint is int:
        return int(text) if _WHOLE.fullmatch(text) else text
    if hint is float:
        try:
            return float(text)
        except ValueError:
            return text
    return _unquoted(text)


def _list(places: tuple[Any, ...], text: str, name: str) -> Any:
    inside = text[1:-1].strip().removesuffix(",")
    if any(bracket in inside for bracket in "[](){}"):
        raise wrong(name, text, "one pair of brackets, such as [a,b]")
    kind = _parts(places[0])[0]
    return [_read(kind, one.strip(), name) for one in inside.split(",")] if inside else []


def _unquoted(text: str) -> str:
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def without_nan(value: Any) -> Any:
    """Return a value as JSON can hold it, lists and dictionaries too: NaN and infinity become None."""
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
