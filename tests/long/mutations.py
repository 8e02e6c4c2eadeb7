"""Odd versions of good inputs, drawn from a generator of random numbers: equal seeds, equal inputs."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, -1e-320),
    *(float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "x",
        "0",
        "-1",
        "nan",
        "None",
        "\0",
        "\n",
        "a\nb",
        "\u202e",
        "é" * 300,
        "x" * 20_000,
    ),
    *("../../etc", "/", "~", "${oc.env:HOME}", "<script>", "\ud800", "=1+1", "%s", "{}"),
    *([], {}, [[]], {"": {}}, [None], [1, "a"], {"a": 1}),
)
"""Values that somebody's reader once fell over."""


def nested(depth: int) -> Any:
    """A list in a list in a list, `depth` times."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def mutated_json(content: Any, draw: random.Random) -> bytes:
    """A JSON document in which one to three things are wrong; sometimes it is no JSON any more."""
    changed = copy.deepcopy(content)
    for _ in range(draw.randint(1, 3)):
        _change_place(changed, draw)
    text = json.dumps(changed).encode()
    return mutated_bytes(text, draw) if draw.random() < 0.2 else text


def _change_place(content: Any, draw: random.Random) -> None:
    places = list(_places(content))
    if not places:
        return
    holder, key = draw.choice(places)
    kind = draw.random()
    if kind < 0.2:
        del holder[key]
    elif kind < 0.3 and isinstance(holder, dict):
        holder[draw.choice(["", "unknown", f"{key} ", str(key).upper()])] = holder[key]
    elif kind < 0.35:
        holder[key] = nested(draw.choice([10, 100, 900]))
    elif kind < 0.45:
        other_holder, other_key = draw.choice(places)
        holder[key] = copy.deepcopy(other_holder[other_key])
    elif kind < 0.55 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * draw.choice([-1, 0, 2, 1e9])
    else:
        holder[key] = copy.deepcopy(draw.choice(NASTY))


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def mutated_bytes(content: bytes, draw: random.Random) -> bytes:
    """A file that was cut, flipped, overwritten or put together from parts."""
    changed, size = bytearray(content), max(len(content), 1)
    first = draw.randrange(size)
    length = draw.choice([1, 4, 64, 1024, size // 2])
    match draw.randrange(6):
        case 0:
            return bytes(changed[:first])
        case 1:
            for _ in range(draw.choice([1, 8, 100])):
                place = draw.randrange(size)
                changed[place : place + 1] = bytes([draw.randrange(256)])
        case 2:
            changed[first : first + length] = bytes(min(length, size - first))
        case 3:
            changed[first:first] = draw.randbytes(length)
        case 4:
            changed[first : first + length] = changed[:length]
        case _:
            del changed[first : first + length]
    return bytes(changed)
