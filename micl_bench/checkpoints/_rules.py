"""Rules that give the tensors of a file timm's names, with a fate for every one of them.

A layout is a list of rules, tried in order; the first that matches the whole name decides:

    RULES = (
        keep(r"encoder\\.(.+)", r"\\1"),                  # the same tensor under another name
        merge(r"(.+)\\.(?P<part>query|key|value)\\.(weight|bias)", r"\\1.qkv.\\3",
              parts=("query", "key", "value")),          # joined along the first axis, in that order
        split(r"(.+)qkv\\.bias", (r"\\1q_bias", "", r"\\1v_bias")),   # equal parts; "": left out
        drop(r"decoder.+", "decoder"),
    )
    state, fates = account(content, RULES, key="model", layout="mae")

A tensor that no rule covers is an error that names it. Wrappers of training show in names (`module.`,
`_orig_mod.`): they are taken off before any rule, and the fates have the file's own names.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from micl_bench.checkpoints._converted import Fate
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import counted, first_few, plural

OTHER = "another network of the file"

# torch.compile, Lightning's Fabric, FSDP and checkpointed activations, at any place of a name; data
# parallel training beside them or in front. A `module` elsewhere is part of a network.
_WRAPPER = re.compile(
    r"(?:module\.)*(?:(?:_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
    r"(?:module\.)*)+|^(?:module\.)+"
)
# Lightning's name of the network: taken off only where nothing else is there.
_MODEL, _DEEPEST = "model.", 3
# Trainers save these beside a network, in any layout: they are left out as a whole.
_TRAINING_STATE = re.compile(
    r"optimi[sz]er.*|opt|(lr_|loss_)?scal(er|ar).*|(lr_)?schedulers?|lr_schedulers|amp|fp16_scaler"
    r"|callbacks|loops|hparams.*|hyper_parameters|message_hub|meta|args|config|epoch|iteration"
    r"|(\w+_)?(rng|random)_states?(_\w+)?"
)


@dataclass(frozen=True)
class Rule:
    """A rule for tensors whose whole name matches; the functions below make one."""

    pattern: re.Pattern[str]
    targets: tuple[str, ...]
    """Templates of `re.Match.expand`; none where the tensor is left out."""
    reason: str
    parts: tuple[str, ...] = ()
    """Values of the pattern's group `part`, in the order in which tensors are joined."""


def keep(pattern: str, target: str = r"\g<0>", *, reason: str = "") -> Rule:
    """Make a rule that puts a tensor under the name `target`."""
    return Rule(re.compile(pattern), (target,), reason)


def drop(pattern: str, reason: str) -> Rule:
    """Make a rule that leaves a tensor out, for a reason."""
    return Rule(re.compile(pattern), (), reason)


def merge(pattern: str, target: str, *, parts: tuple[str, ...]) -> Rule:
    """Make a rule that joins tensors which differ in the group `(?P<part>...)` along the first axis."""
    return Rule(re.compile(pattern), (target,), f"joined: {', '.join(parts)}", parts)


def split(pattern: str, targets: tuple[str, ...]) -> Rule:
    """Make a rule that cuts a tensor into equal parts along the first axis; no target leaves one out."""
    return Rule(re.compile(pattern), targets, f"split into {len(targets)}")


def tensors_of(content: dict[str, Any], key: str = "") -> dict[str, Tensor]:
    """Return the tensors directly in a table of the file, under their names without wrappers.

    Args:
        key: name of the table, may be nested (`state_dict.model`); `""` is the file itself. Where there
            is no such table, there are no tensors.

    Raises:
        InputError: two tensors have the same name without wrappers.
    """
    return {plain: tensor for plain, _, tensor in named_tensors(content, key)}


def first_key(content: dict[str, Any], *keys: str) -> str:
    """Return the first of these tables that holds tensors; `""`, the file itself, where none does."""
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
        key: the table with the network's tensors, as for `tensors_of`.
        prefix: pattern that is taken off the start of names, where it is there, before rules see
            them (`(backbone\\\\.)?`).
        beside: other entries of the file that may hold tensors (`student`), and why they are left
            out. Optimiser, scheduler and the like need no entry.

    Returns:
        the state under timm's names (half precision as fp32), and a fate for every tensor; an entry
        beside the table is one fate.

    Raises:
        InputError: tensors that no rule covers, several for one target, parts missing, integers or
            complex numbers where weights belong.
    """
    state: dict[str, Tensor] = {}
    fates: list[Fate] = []
    unknown: list[str] = []
    joined: dict[str, tuple[tuple[str, ...], dict[str, Tensor]]] = {}
    named = named_tensors(content, key)
    for plain, stored, tensor in named:
        short = re.sub(rf"^(?:{prefix})", "", plain, count=1)
        matches = ((rule, rule.pattern.fullmatch(short)) for rule in rules)
        rule, match = next((one for one in matches if one[1]), (None, None))
        if rule is None or match is None:
            unknown.append(stored)
            continue
        if not rule.targets:
            fates.append(Fate(stored, "left out", reason=rule.reason))
            continue
        wide, note = as_float32(stored, tensor)
        targets = [match.expand(target) for target in rule.targets]
        if rule.parts:
            joined.setdefault(targets[0], (rule.parts, {}))[1][match["part"]] = wide
        else:
            pieces = wide.chunk(len(targets)) if len(targets) > 1 else [wide]
            for target, piece in zip(targets, pieces, strict=True):
                _put(state, target, piece, layout)
        used = ", ".join(filter(None, targets))
        kind: Literal["used", "renamed"] = "used" if used == stored else "renamed"
        fates.append(Fate(stored, kind, used, "; ".join(filter(None, (rule.reason, note)))))
    if unknown:
        raise InputError(
            f"{len(unknown)} of {counted(len(named), 'tensor')} in the file "
            f"{plural(len(unknown), 'is', 'are')} not known to the layout {layout}: "
            f"{first_few(unknown)}; `--format` reads it as another"
        )
    for target, (parts, values) in joined.items():
        if missing := [part for part in parts if part not in values]:
            raise InputError(f"{layout}: {target} lacks its parts {', '.join(missing)}")
        _put(state, target, torch.cat([values[part] for part in parts]), layout)
    return state, (*fates, *_others(content, key, beside or {}, layout))


def keep_all(state: dict[str, Tensor]) -> tuple[Fate, ...]:
    """Return fates of tensors that have timm's names already."""
    return tuple(Fate(name, "used", name) for name in state)


def count_tensors(value: Any) -> int:
    """Count the tensors anywhere in a value, each object once."""
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


def named_tensors(content: dict[str, Any], key: str) -> list[tuple[str, str, Tensor]]:
    """Return each tensor of a table with its name without wrappers and its name in the file."""
    table: Any = content
    for part in filter(None, key.split(".")):
        table = table.get(part) if isinstance(table, dict) else None
    tensors = {
        str(name): value.data if isinstance(value, nn.Parameter) else value
        for name, value in (table.items() if isinstance(table, dict) else ())
        if isinstance(value, Tensor)
    }
    plain = list(tensors)
    for _ in range(_DEEPEST):
        plain = [_WRAPPER.sub("", name) for name in plain]
        if not all(name.startswith(_MODEL) for name in plain):
            break
        plain = [name.removeprefix(_MODEL) for name in plain]
    if len(set(plain)) < len(plain):
        raise InputError(f"two tensors of the file are both {Counter(plain).most_common(1)[0][0]}")
    return [(name, *stored) for name, stored in zip(plain, tensors.items(), strict=True)]


def _put(state: dict[str, Tensor], name: str, value: Tensor, layout: str) -> None:
    if name in state:
        raise InputError(f"{layout}: two tensors of the file are both {name}")
    if name:
        state[name] = value.contiguous()


def as_float32(name: str, tensor: Tensor) -> tuple[Tensor, str]:
    """Widen half precision, with a note; raise an InputError for numbers that are no weights."""
    stored = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_floating_point():
        raise InputError(f"{name} holds {stored}; weights are read from floating point only")
    if tensor.dtype == torch.float32:
        return tensor, ""
    return tensor.float(), f"{stored} read as float32"


def _others(
    content: dict[str, Any], key: str, beside: dict[str, str], layout: str
) -> Iterator[Fate]:
    """Yield one fate per entry beside the table that holds tensors."""
    top, _, rest = key.partition(".")
    for name, value in content.items() if key else ():
        if name == top:
            inner = {part.removeprefix(f"{top}."): why for part, why in beside.items()}
            for fate in _others(value, rest, inner, layout):
                yield Fate(f"{top}.{fate.name}", fate.kind, reason=fate.reason)
            continue
        if not (number := count_tensors(value)):
            continue
        is_training = _TRAINING_STATE.fullmatch(str(name))
        reason = beside.get(name, "state of training" if is_training else "")
        if not reason:
            raise InputError(
                f"the file's entry {name!r} holds {counted(number, 'tensor')} not known to the layout "
                f"{layout}"
            )
        yield Fate(str(name), "left out", reason=f"{reason}, {counted(number, 'tensor')}")
