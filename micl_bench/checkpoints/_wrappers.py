"""What training puts around a network shows in its tensors' names: taken off, whatever the layout."""

import dataclasses
import re
from collections import Counter
from typing import Any

from torch import Tensor

from micl_bench.checkpoints._converted import Converted
from micl_bench.runtime.errors import InputError

# torch.compile, Lightning's Fabric, FSDP and checkpointed activations, at any place of a name; data
# parallel training beside them or in front. What is called `module` elsewhere is part of a network.
_ANYWHERE = re.compile(
    r"(module\.)*((_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
    r"(module\.)*)+"
)
_IN_FRONT = re.compile(r"(module\.)+")
_MODEL = "model."
_DEEPEST = 3


@dataclasses.dataclass(frozen=True)
class Unwrapped:
    """A file's content under plain names."""

    content: dict[str, Any]
    stored: tuple[tuple[str, dict[str, str]], ...]
    """For each table whose names changed: its key, and each name as the file has it."""

    def named_as_stored(self, converted: Converted) -> Converted:
        """The same with the file's own names in the fates."""
        changed = {key for key, _ in self.stored}
        if converted.branch in self.content and converted.branch not in changed:
            # Its own table had plain names; that of another network had not.
            return converted
        found = {fate.name for fate in converted.fates}
        fitting = [one for one in self.stored if found & one[1].keys()]
        fitting.sort(key=lambda one: (one[0] != converted.branch, -len(found & one[1].keys())))
        if not fitting:
            return converted
        stored = fitting[0][1]
        fates = tuple(
            dataclasses.replace(
                fate, name=stored[fate.name], kind="renamed" if fate.kind == "used" else fate.kind
            )
            if fate.name in stored and stored[fate.name] != fate.name
            else fate
            for fate in converted.fates
        )
        return dataclasses.replace(converted, fates=fates)


def unwrapped(content: dict[str, Any]) -> Unwrapped:
    """Take wrappers off the names of every table of tensors.

    Raises:
        InputError: two tensors of one table have the same name without them.
    """
    stored: list[tuple[str, dict[str, str]]] = []
    return Unwrapped(_table(content, "", stored, 0), tuple(stored))


def _table(
    table: dict[str, Any], key: str, stored: list[tuple[str, dict[str, str]]], depth: int
) -> dict[str, Any]:
    names = [name for name, value in table.items() if isinstance(value, Tensor)]
    plain = _plain_names([str(name) for name in names])
    known = dict(zip(names, plain, strict=True))
    if len(set(plain)) < len(plain):
        twice = Counter(plain).most_common(1)[0][0]
        raise InputError(f"two tensors of the file are both {twice}")
    if any(name != known[name] for name in names):
        stored.append((key, {short: str(name) for name, short in known.items()}))
    return {
        known.get(name, name): _table(value, str(name), stored, depth + 1)
        if isinstance(value, dict) and depth < _DEEPEST
        else value
        for name, value in table.items()
    }


def _plain_names(names: list[str]) -> list[str]:
    plain = [_without_front(_ANYWHERE.sub("", name)) for name in names]
    # Lightning's name of the network: only where nothing else is there.
    if plain and all(name.startswith(_MODEL) for name in plain):
        return _plain_names([name.removeprefix(_MODEL) for name in plain])
    return plain


def _without_front(name: str) -> str:
    found = _IN_FRONT.match(name)
    return name[found.end() :] if found else name
