"""Rules from a file's tensors to timm's names: nothing is lost, nothing is taken twice."""

import pytest
import torch

from micl_bench.checkpoints._rules import account, drop, keep, merge, split
from micl_bench.runtime.errors import InputError


def _tensor(start: int, rows: int = 1) -> torch.Tensor:
    return torch.arange(start, start + 2 * rows).float().reshape(rows, 2)


def test_each_kind_of_rule_does_what_it_says() -> None:
    content = {
        "a.value": _tensor(20),
        "a.key": _tensor(10),
        "a.query": _tensor(0),
        "qkv": _tensor(0, rows=3),
        "same": _tensor(5),
        "old": _tensor(6),
        "decoder.x": _tensor(7),
    }
    rules = (
        merge(r"(?P<part>query|key|value)", "joined", parts=("query", "key", "value")),
        split(r"qkv", ("q", "", "v")),
        keep("same"),
        keep("old", "new", reason="renamed by its authors"),
        drop(r"decoder\..+", "decoder"),
    )
    state, fates = account(content, rules, layout="mine", prefix=r"(a\.)?")
    expected = {"q": _tensor(0), "v": _tensor(4), "new": _tensor(6), "same": _tensor(5)}
    expected["joined"] = torch.cat([_tensor(0), _tensor(10), _tensor(20)])
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert [(fate.name, fate.kind, fate.target, fate.reason) for fate in fates] == [
        *((f"a.{part}", "renamed", "joined", "joined: query, key, value")
          for part in ("value", "key", "query")),
        ("qkv", "renamed", "q, v", "split into 3"),
        ("same", "used", "same", ""),
        ("old", "renamed", "new", "renamed by its authors"),
        ("decoder.x", "left out", "", "decoder"),
    ]  # fmt: skip


def test_what_cannot_be_accounted_for_is_named() -> None:
    many = {"model": {f"x{number}": _tensor(0) for number in range(7)} | {"a": _tensor(1)}}
    words = r"7 of 8 tensors in the file are not .* x0, x1, x2, x3, x4, and 2 more"
    with pytest.raises(InputError, match=words):
        account(many, (keep("a"),), layout="mine", key="model")
    content = {"a": _tensor(0), "b": _tensor(1)}
    with pytest.raises(InputError, match="two tensors of the file are both c"):
        account(content, (keep("[ab]", "c"),), layout="mine")
    rule = merge("(?P<part>[ab])", "c", parts=("a", "b", "z"))
    with pytest.raises(InputError, match="c lacks its parts z"):
        account(content, (rule,), layout="mine")


def test_what_lies_beside_the_network_is_known_or_refused() -> None:
    content = {
        "net": {"teacher": {"a": _tensor(0)}, "student": {"a": _tensor(1)}},
        "optimizer": {"state": {0: {"m": _tensor(2), "v": [_tensor(3), _tensor(4)]}}},
        "epoch": 3,
    }
    rules = (keep("a"),)
    options = {"layout": "mine", "key": "net.teacher"}
    state, fates = account(content, rules, beside={"net.student": "other branch"}, **options)
    assert torch.equal(state["a"], _tensor(0))
    assert [(fate.name, fate.reason) for fate in fates[1:]] == [
        ("net.student", "other branch, 1 tensor"),
        ("optimizer", "state of training, 3 tensors"),
    ]
    with pytest.raises(InputError, match="entry 'student' holds 1 tensor not known"):
        account(content, rules, **options)


def test_entries_that_hold_each_other_are_counted_once() -> None:
    nested: list[object] = [_tensor(0)]
    for _ in range(60):
        nested = [nested, nested]
    content = {"model": {"a": _tensor(1)}, "optimizer": nested}
    _, fates = account(content, (keep("a"),), layout="mine", key="model")
    assert fates[-1].reason == "state of training, 1 tensor"
