"""From the tensors of a file to timm's names, with a fate for every one of them.

A layout is a list of rules, tried in order; the first that matches the whole name decides:

    RULES = (
        keep(r"module\\.(.+)", r"\\1"),                  # the same tensor under another name
        keep(r"norm\\.(\\w+)", change=as_fp32_scale),     # changed on the way (one in, one out)
        merge(r"(.+)\\.(query|key|value)\\.(weight|bias)", r"\\1.qkv.\\3",
              parts=("query", "key", "value")),          # joined along the first axis, in that order
        split(r"(.+)qkv\\.bias", (r"\\1q_bias", "", r"\\1v_bias")),   # equal parts; "": left out
        drop(r"decoder.+", "decoder"),
    )
    state, fates = account(content, RULES, key="model", layout="mae")

A tensor that no rule covers is an error that names it.
"""

import bisect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from micl_bench.checkpoints._converted import Fate
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import counted, plural

# What trainers save beside a network, in any layout: left out as a whole.
_TRAINING_STATE = re.compile(
    r"optimi[sz]er.*|opt|(lr_|loss_)?scal(er|ar).*|(lr_)?schedulers?|lr_schedulers|amp|fp16_scaler"
    r"|callbacks|loops|hparams.*|hyper_parameters|message_hub|meta|args|config|epoch|iteration"
    r"|(\w+_)?(rng|random)_states?(_\w+)?"
)
_SHOWN = 5


@dataclass(frozen=True)
class Rule:
    """What becomes of the tensors whose whole name matches; made by the functions below."""

    pattern: re.Pattern[str]
    targets: tuple[str, ...]
    """Templates of `re.Match.expand`; none where the tensor is left out."""
    reason: str
    change: Callable[[Tensor], Tensor] | None = None
    parts: tuple[str, ...] = ()
    """Of what is joined: values of the pattern's group `part`, in their order."""


def keep(
    pattern: str,
    target: str = r"\g<0>",
    *,
    change: Callable[[Tensor], Tensor] | None = None,
    reason: str = "",
) -> Rule:
    """The tensor goes to `target`, through `change` where there is one; `reason` says why."""
    return Rule(re.compile(pattern), (target,), reason, change)


def drop(pattern: str, reason: str) -> Rule:
    """The tensor is deliberately left out."""
    return Rule(re.compile(pattern), (), reason)


def merge(pattern: str, target: str, *, parts: tuple[str, ...]) -> Rule:
    """Tensors that differ in the group `(?P<part>...)` are joined along the first axis."""
    return Rule(re.compile(pattern), (target,), f"joined: {', '.join(parts)}", None, parts)


def split(pattern: str, targets: tuple[str, ...]) -> Rule:
    """The tensor is cut into equal parts along the first axis; an empty target leaves one out."""
    return Rule(re.compile(pattern), targets, f"split into {len(targets)}")


def tensors_of(content: dict[str, Any], key: str = "") -> dict[str, Tensor]:
    """The tensors directly in a table of the file; `key` may be nested (`state_dict.model`).

    Empty where there is no such table.
    """
    found: Any = content
    for part in filter(None, key.split(".")):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return {}
    return {
        str(name): value.data if isinstance(value, nn.Parameter) else value
        for name, value in found.items()
        if isinstance(value, Tensor)
    }


def first_key(content: dict[str, Any], *keys: str) -> str:
    """The first of these tables that holds tensors; `""`, the content itself, where none does."""
    return next((key for key in keys if tensors_of(content, key)), "")


def account(
    content: dict[str, Any],
    rules: tuple[Rule, ...],
    *,
    layout: str,
    key: str = "",
    prefix: str = "",
    beside: dict[str, str] | None = None,
) -> tuple[dict[str, Tensor], tuple[Fate, ...]]:
    """Apply the rules to one table of a file.

    Args:
        content: the whole file, as `read_safely` gives it.
        layout: name of the format, for errors.
        key: the table with the network's tensors; `""` where they lie in the file itself.
        prefix: pattern that is taken off the start of names, where it is there, before rules see
            them (`module\\\\.`, `(module\\\\.)?backbone\\\\.`).
        beside: other entries of the file that may hold tensors (`student`), and why they are left
            out. Optimiser, scheduler and the like need no entry.

    Returns:
        state under timm's names (half precision as fp32), and a fate for every tensor; an entry
        beside the table is one fate.

    Raises:
        InputError: tensors that no rule covers, several for one target, parts missing, integers or
            complex numbers where weights belong.
    """
    tensors = tensors_of(content, key)
    state: dict[str, Tensor] = {}
    fates: list[Fate] = []
    unknown: list[str] = []
    waiting: dict[str, dict[str, Tensor]] = {}
    joined: dict[str, tuple[str, ...]] = {}
    for name, tensor in tensors.items():
        matched = _first_match(rules, _without(prefix, name))
        if matched is None:
            unknown.append(name)
            continue
        rule, match = matched
        if not rule.targets:
            fates.append(Fate(name, "left out", reason=rule.reason))
            continue
        wide, note = _as_float32(name, tensor)
        for target, value in _pieces(rule, match, wide):
            if rule.parts:
                waiting.setdefault(target, {})[match["part"]] = value
                joined[target] = rule.parts
            else:
                _put(state, target, value, layout)
        used = ", ".join(match.expand(target) for target in rule.targets if target)
        kind: Literal["used", "renamed"] = "used" if used == name else "renamed"
        fates.append(Fate(name, kind, used, "; ".join(filter(None, (rule.reason, note)))))
    _refuse_unknown(unknown, len(tensors), layout)
    for target, values in waiting.items():
        missing = [part for part in joined[target] if part not in values]
        if missing:
            raise InputError(f"{layout}: {target} lacks its parts {', '.join(missing)}")
        _put(state, target, torch.cat([values[part] for part in joined[target]]), layout)
    return state, (*fates, *_others(content, key, beside or {}, layout))


def refuse_branch(branch: str | None) -> None:
    """For layouts of one network.

    Raises:
        InputError: a branch was asked for.
    """
    if branch:
        raise InputError(f"the file has no branch {branch!r}; it holds one network")


def keep_all(state: dict[str, Tensor]) -> tuple[Fate, ...]:
    """Fates where every tensor has timm's name already."""
    return tuple(Fate(name, "used", name) for name in state)


def account_filtered(
    content: dict[str, Any],
    filtered: dict[str, Tensor],
    dropped: tuple[Rule, ...],
    *,
    layout: str,
    key: str = "",
    beside: dict[str, str] | None = None,
) -> tuple[dict[str, Tensor], tuple[Fate, ...]]:
    """The same for what timm's own `checkpoint_filter_fn` made of `tensors_of(content, key)`.

    A tensor of the file is used where the filter's result holds it, a part of it, or its name;
    the others must match a rule of `dropped`.

    Raises:
        InputError: the filter lost a tensor that no rule names, or weights are no floating point.
    """
    tensors = tensors_of(content, key)
    fates, unknown = [], []
    parts = _Parts(filtered)
    for name, tensor in tensors.items():
        targets = parts.of(tensor)
        matched = _first_match(dropped, name)
        if targets or name in filtered:
            same = targets == [name]
            note = "" if targets else "changed by timm"
            target = ", ".join(targets or [name])
            note = "; ".join(filter(None, (note, _read_as(name, tensor))))
            fates.append(Fate(name, "used" if same else "renamed", target, note))
        elif matched:
            fates.append(Fate(name, "left out", reason=matched[0].reason))
        else:
            unknown.append(name)
    _refuse_unknown(unknown, len(tensors), layout)
    state = {name: _as_float32(name, value)[0] for name, value in filtered.items()}
    return state, (*fates, *_others(content, key, beside or {}, layout))


def _first_match(rules: tuple[Rule, ...], name: str) -> tuple[Rule, re.Match[str]] | None:
    for rule in rules:
        if match := rule.pattern.fullmatch(name):
            return rule, match
    return None


def _without(prefix: str, name: str) -> str:
    found = re.match(prefix, name)
    return name[found.end() :] if found else name


def _pieces(rule: Rule, match: re.Match[str], tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    pieces = tensor.chunk(len(rule.targets)) if len(rule.targets) > 1 else [tensor]
    for target, piece in zip(rule.targets, pieces, strict=True):
        if target:
            yield match.expand(target), rule.change(piece) if rule.change else piece


def _put(state: dict[str, Tensor], name: str, value: Tensor, layout: str) -> None:
    if name in state:
        raise InputError(f"{layout}: two tensors of the file are both {name}")
    state[name] = value.contiguous()


def _as_float32(name: str, tensor: Tensor) -> tuple[Tensor, str]:
    note = _read_as(name, tensor)
    return tensor.float() if note else tensor, note


def _read_as(name: str, tensor: Tensor) -> str:
    """How other precision is read, empty for float32; other kinds of number are no weights."""
    stored = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_floating_point():
        raise InputError(f"{name} holds {stored}; weights are read from floating point only")
    return "" if tensor.dtype == torch.float32 else f"{stored} read as float32"


class _Parts:
    """Tensors by where their numbers lie, so that those within another are found at once."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        starts = ((value.data_ptr(), place, name) for place, (name, value) in
                  enumerate(tensors.items()))  # fmt: skip
        self._found = sorted(starts)
        self._starts = [start for start, _, _ in self._found]

    def of(self, whole: Tensor) -> list[str]:
        """Names of those that begin within `whole`, in the order of the tensors."""
        start = whole.data_ptr()
        end = start + whole.numel() * whole.element_size()
        first, last = (bisect.bisect_left(self._starts, place) for place in (start, end))
        return [name for _, _, name in sorted(self._found[first:last], key=lambda one: one[1])]


def _refuse_unknown(unknown: list[str], number: int, layout: str) -> None:
    if unknown:
        shown = ", ".join(unknown[:_SHOWN])
        rest = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise InputError(
            f"{len(unknown)} of {counted(number, 'tensor')} in the file "
            f"{plural(len(unknown), 'is', 'are')} not known to the layout "
            f"{layout}: "
            f"{shown}{rest}; `--format` reads it as another"
        )


def _others(content: dict[str, Any], key: str, beside: dict[str, str], layout: str) -> list[Fate]:
    """One fate for each entry beside the table that holds tensors."""
    fates: list[Fate] = []
    top, _, rest = key.partition(".")
    for name, value in content.items() if key else ():
        if name == top:
            if rest:
                inner = {part.removeprefix(f"{top}."): why for part, why in beside.items()}
                fates += [
                    Fate(f"{top}.{fate.name}", fate.kind, reason=fate.reason)
                    for fate in _others(value, rest, inner, layout)
                ]
            continue
        number = count_tensors(value)
        if not number:
            continue
        reason = beside.get(name) or (
            "state of training" if _TRAINING_STATE.fullmatch(str(name)) else ""
        )
        if not reason:
            raise InputError(
                f"the file's entry {name!r} holds "
                f"{counted(number, 'tensor')} not known to the layout {layout}"
            )
        fates.append(Fate(str(name), "left out", reason=f"{reason}, {counted(number, 'tensor')}"))
    return fates


def count_tensors(value: Any) -> int:
    """Tensors anywhere in a value; what is there twice counts once."""
    waiting, seen, number = [value], set(), 0
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, Tensor):
            number += 1
        elif isinstance(found, (dict, list, tuple)):
            waiting.extend(found.values() if isinstance(found, dict) else found)
    return number
