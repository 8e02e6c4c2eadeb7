"""Documents of strangers: a fault is named by its path, in one short line without words of a library."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.validate import Line, Sha256, built, parsed, read_json, require_plain
from micl_bench.runtime.values import Values, Within

LIBRARIES = ("msgspec", "`", "expected", "validationerror", "malformed", "enum", "decode", "regex")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side(Values):
    pixels: Annotated[int, Within(1, 64)] = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    kind: Literal["a", "b"]
    value: float = 0.0
    side: Side = Side()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    name: Line
    seed: int
    digest: Sha256 = "0" * 64
    inner: dict[str, Inner] = dataclasses.field(default_factory=dict)
    rows: tuple[tuple[int, str], ...] = ()
    many: list[Inner] = dataclasses.field(default_factory=list)
    maybe: Inner | None = None
    free: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_on: bool = False


def nested(levels: int) -> Any:
    inner: Any = []
    for _ in range(levels):
        inner = [inner]
    return inner


WHOLE = {"name": "n", "seed": 3}


def test_what_is_as_declared_comes_typed() -> None:
    content = {
        **WHOLE,
        "inner": {"x": {"kind": "a", "value": 2}},
        "rows": [[1, "one"]],
        "many": [{"kind": "b", "side": {"pixels": 64}}],
        "maybe": {"kind": "a"},
        "free": {"grid": [[1, None, 1.0, True]]},
    }
    assert built(Outer, parsed(json.dumps(content))) == Outer(
        name="n",
        seed=3,
        inner={"x": Inner(kind="a", value=2.0)},
        rows=((1, "one"),),
        many=[Inner(kind="b", side=Side(pixels=64))],
        maybe=Inner(kind="a"),
        free={"grid": [[1, None, 1.0, True]]},
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "3"}, "$.seed is '3'; needed: a whole number"),
        ({"seed": True}, "$.seed is True; needed: a whole number"),
        ({"seed": 3.0}, "$.seed is 3.0; needed: a whole number"),
        ({"seed": None}, "$.seed is None; needed: a whole number"),
        ({"is_on": 1}, "$.is_on is 1; needed: true or false"),
        ({"seed": 1 << 63}, "$.seed is a whole number of more than 64 bits"),
        ({"free": {"a": [-(1 << 63)]}}, "$.free.a[0] is a whole number of more than 64 bits"),
        ({"free": {"a": [math.nan]}}, "$.free.a[0] is nan, which is no number"),
        ({"inner": {"x": {"kind": "a", "value": -math.inf}}}, "$.inner.x.value is -inf"),
        ({"free": {"a": {1: 2}}}, "$.free.a has the key 1, which is no text"),
        ({"free": {"a": nested(70)}}, "is nested more than 64 levels deep"),
        ({"name": "a\nb"}, "$.name is 'a\\nb'; needed: one line of"),
        ({"name": "a\u202eb"}, "$.name is 'a\\u202eb'; needed: one line of"),
        ({"name": "x" * 201}, "needed: one line of at most 200 printable characters"),
        ({"free": {"a": object()}}, "$.free.a is of the type object, which JSON does not know"),
        ({"digest": "0" * 63 + "g"}, "needed: a SHA-256 in 64 hex digits"),
        ({"digest": "0" * 64 + "\n"}, "needed: a SHA-256 in 64 hex digits"),
        ({"inner": []}, "$.inner is []; needed: a mapping of names to values"),
        ({"inner": {"x": {"kind": "a"}, "y": {"kind": "c"}}},
         "$.inner.y.kind is 'c'; needed: 'a' or 'b'"),
        ({"inner": {"x": {}}}, "$.inner.x has no kind"),
        ({"inner": {"x": {"kind": "a", "q": 1}}}, "$.inner.x has q; known: kind, side, value"),
        ({"many": [{"kind": "a"}, {"kind": "a", "side": {"pixels": 65}}]},
         "$.many[1].side: pixels is 65; needed: from 1 to 64"),
        ({"many": [{"kind": "a", "z" * 1000: 1}]}, "$.many[0] has zzz"),
        ({"rows": [[1, "a"], [2]]}, "$.rows[1] is [2]; needed: a list of 2 values"),
        ({"rows": [[1, "a"], [2, 3]]}, "$.rows[1][1] is 3; needed: a text"),
        ({"maybe": {"kind": 1}}, "$.maybe.kind is 1; needed: 'a' or 'b'"),
        ({"maybe": 5}, "$.maybe is 5; needed: a mapping of names to values or null"),
        ({"mood": "fine"}, "$ has mood; known: digest, free, inner"),
        ({"k" * 5000: {}}, "$ has kkk"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_its_path(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        both({**WHOLE, **change})
    check(str(caught.value), words)


def both(content: dict[str, Any]) -> None:
    require_plain(content)
    built(Outer, content)


def check(said: str, words: str) -> None:
    assert words in said
    assert len(said) <= 300
    assert said.isprintable()
    assert not [word for word in LIBRARIES if word in said.lower()]


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(InputError, match=r"^\$ has no name, seed$"):
        built(Outer, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "it is not valid JSON"),
        (b'{"name": ', "it is not valid JSON"),
        (b'{"value": NaN}', "it is not valid JSON at byte 10: 'NaN}'"),
        (b'{"value": -Infinity}', "it is not valid JSON"),
        (b'{"value": 1e999}', "it is not valid JSON"),
        (b'{"name": "\xff"}', "it is not valid JSON"),
        (b'{"name": "\\ud800"}', "it is not valid JSON"),
        (b"[" * 100_000, "it is nested more than 64 levels deep"),
        (b"[]", "$ is []; needed: a mapping of names to values"),
        (b"null", "$ is None; needed: a mapping of names to values"),
        (b'{"name": "n", "seed": "\x1b[31m"}', "it is not valid JSON"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_reason(
    tmp_path: Path, text: bytes, words: str
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        read_json(path, Outer)
    check(str(caught.value).replace(str(tmp_path), ""), words)
    assert "x.json: " in str(caught.value)


def test_a_file_that_is_too_large_or_gone_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(WHOLE))
    assert read_json(path, Outer) == Outer(name="n", seed=3)
    with pytest.raises(InputError, match=r"x\.json: it has more than 10 bytes"):
        read_json(path, Outer, most=10)
    with pytest.raises(InputError, match=r"y\.json: No such file"):
        read_json(tmp_path / "y.json", Outer)
