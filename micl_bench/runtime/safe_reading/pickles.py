"""Pickles are followed, instruction by instruction, before any of them runs.

Weights-only loading of torch runs no code of a stranger, but its own list of what may be called holds
functions that reserve any memory by a number in the file (`bytearray(5000000000)`, storages, tensors
larger than their storage). Here every instruction is followed without doing it, on a stack of what
its values would be; only what files of tensors need is let through.
"""

import pickletools
from collections.abc import Callable
from types import SimpleNamespace
from typing import IO, Any

from micl_bench.runtime.safe_reading.pickle_calls import (
    TENSOR,
    THING,
    Global,
    Storage,
    Thing,
    UnsafePickleError,
    allowed,
    bytes_per_item,
    called,
    check_key,
)

_MOST_INSTRUCTIONS = 1_000_000


class _List(list[Any]):
    """A list of what its values would be."""


_MARK = object()


def check_pickle(file: IO[bytes], *, size: int) -> Any:
    """Follow one pickle to its end without running it, and return the number that it holds, if any.

    Args:
        size: bytes of the whole file, which no tensor in it can exceed.

    Raises:
        UnsafePickleError: it names something else than tensors and plain values are made of, or a
            tensor that is larger than the file; the message begins with `holds` or `asks`.
        Exception: it is damaged, in any way that the reading of it may fail.
    """
    machine = _Machine(size)
    # `genops` would ask a file that knows its place for it at each instruction.
    source: Any = SimpleNamespace(read=file.read, readline=file.readline)
    for number, (opcode, argument, _) in enumerate(pickletools.genops(source)):
        if number >= _MOST_INSTRUCTIONS:
            raise UnsafePickleError(
                f"has a pickle of more than {_MOST_INSTRUCTIONS:,} instructions; save the "
                "`state_dict()` of the network alone"
            )
        if opcode.name == "STOP":
            break
        machine.follow(opcode.name, argument)
    (found,) = machine.stack
    return found


class _Machine:
    """The stack and the memo of a pickle, with descriptions in place of values."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._size = size
        self._stored: dict[str | int, int] = {}
        self._asked = 0
        self._is_pickle = False

    def follow(self, name: str, argument: Any) -> None:
        """Do to the stack what one instruction would."""
        if name in _VALUES:
            self.stack.append(_VALUES[name](argument))
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self.stack[-1]
        elif name == "GLOBAL":
            self.stack.append(allowed(*argument.split(" ")))
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in _STEPS:
            _STEPS[name](self)
        elif name == "PROTO":
            self._is_pickle = True
        elif not self._is_pickle:
            raise ValueError("no pickle of torch.save")
        else:
            raise UnsafePickleError(
                f"is a pickle with the instruction {name}, which torch.save does not write; save its "
                "tensors again with torch.save"
            )

    def marked(self) -> list[Any]:
        """Take the values above the last mark off the stack."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def pack(self, number: int) -> None:
        """Put a tuple in the place of the last values."""
        found = tuple(self.stack[-number:])
        if len(found) < number:
            raise ValueError("too few values")
        self.stack[-number:] = [found]

    def append(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], _List):
            self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        for key in values[::2]:
            check_key(key)

    def build(self) -> None:
        """Refuse a state of tensors: torch.save writes none, and it could make them grow."""
        self.stack.pop()
        if not isinstance(self.stack[-1], Thing) or self.stack[-1] is TENSOR:
            raise UnsafePickleError("holds a tensor in a manner that torch.save does not write")

    def call(self) -> None:
        """Call a function or a class with its arguments."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise UnsafePickleError("calls something that is no function")
        self.stack.append(called(function.path, arguments))

    def store(self) -> None:
        """Count the numbers behind tensors that a pickle refers to."""
        words = self.stack.pop()
        kind, place, numel = words[1], words[2], words[4]
        size = bytes_per_item(kind.path) if isinstance(kind, Global) else None
        if size is None or not isinstance(place, (str, int)):
            raise UnsafePickleError("holds numbers of an unknown kind")
        if type(numel) is not int or numel < 0:
            raise ValueError("no number of elements")
        more = max(0, numel * size - self._stored.get(place, 0))
        self._stored[place] = self._stored.get(place, 0) + more
        self._asked += more
        if self._asked > self._size:
            raise UnsafePickleError(
                f"asks for {self._asked:,} bytes of numbers, but has {self._size:,} in all"
            )
        self.stack.append(Storage(numel))


_VALUES: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: _List(),
    "EMPTY_DICT": lambda _: THING,
    "EMPTY_SET": lambda _: THING,
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"),
        lambda value: value,
    ),
}
_STEPS: dict[str, Callable[[_Machine], None]] = {
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.marked())),
    "TUPLE1": lambda machine: machine.pack(1),
    "TUPLE2": lambda machine: machine.pack(2),
    "TUPLE3": lambda machine: machine.pack(3),
    "APPEND": lambda machine: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine: machine.append(machine.marked()),
    "SETITEM": lambda machine: machine.set_items([machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine: machine.set_items(machine.marked()),
    "BUILD": _Machine.build,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BINPERSID": _Machine.store,
}
