"""The effect of a pickle, read from its instructions before any of them runs.

Weights-only loading of torch runs no code of a stranger, but its own list of what may be called holds
functions that reserve any memory by a number in the file (`bytearray(5000000000)`, storages, tensors
larger than their storage). Here every instruction is followed without doing it, on a stack of what
its values would be; only what files of tensors need is let through.
"""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

import torch

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.allowlist import ALLOWED

_MOST_INSTRUCTIONS = 1_000_000
_LARGEST_KEY = 1 << 60
_ITEM_BYTES = {
    "Untyped": 1, "Bool": 1, "Byte": 1, "Char": 1, "Short": 2, "Half": 2, "BFloat16": 2, "Int": 4,
    "Float": 4, "Long": 8, "Double": 8, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip
"""By the kind of a storage; quantised ones are not read."""


class _Global(NamedTuple):
    """A name that the pickle mentions."""

    path: str


class _Storage(NamedTuple):
    numel: int


class _List(list[Any]):
    """A list of what its values would be."""


class _Thing:
    """Whatever else: a dictionary, a tensor, an object."""


_THING = _Thing()
_MARK = object()
_ATOMS = (str, bytes, int, float, type(None))


class UnsafePickleError(InputError):
    """A pickle that would do more than hold tensors and plain values."""


def check_pickle(file: IO[bytes], *, size: int) -> Any:
    """Follow one pickle to its end, running nothing; the number it holds, where it holds but one.

    Args:
        size: of the whole file in bytes, which no tensor in it can exceed.

    Raises:
        UnsafePickleError: it names something else than tensors and plain values are made of, or a
            tensor that is larger than the file; the message begins with `holds` or `asks`.
        Exception: it is damaged, in any way that the reading of it may fail.
    """
    machine = _Machine(size)
    # A file with a `tell` would be asked for its place at each instruction.
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
            self.stack.append(_allowed(*argument.split(" ")))
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
        """Return the values above the last mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def pack(self, number: int) -> None:
        """A tuple of the last values."""
        found = tuple(self.stack[-number:])
        if len(found) < number:
            raise ValueError("too few values")
        self.stack[-number:] = [found]

    def append(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], _List):
            self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        for key in values[::2]:
            _check_key(key)

    def build(self) -> None:
        """State of an object: tensors have none that torch.save writes, and could be made to grow."""
        self.stack.pop()
        if not isinstance(self.stack[-1], _Thing) or self.stack[-1] is _TENSOR:
            raise UnsafePickleError("holds a tensor in a manner that torch.save does not write")

    def call(self) -> None:
        """A function or a class with its arguments."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise UnsafePickleError("calls what is no function")
        self.stack.append(_called(function.path, arguments))

    def store(self) -> None:
        """A reference to the numbers behind tensors."""
        words = self.stack.pop()
        kind, place, numel = words[1], words[2], words[4]
        item_bytes = _item_bytes(kind.path) if isinstance(kind, _Global) else None
        if item_bytes is None or not isinstance(place, (str, int)):
            raise UnsafePickleError("holds numbers of an unknown kind")
        if type(numel) is not int or numel < 0:
            raise ValueError("no number of elements")
        more = max(0, numel * item_bytes - self._stored.get(place, 0))
        self._stored[place] = self._stored.get(place, 0) + more
        self._asked += more
        if self._asked > self._size:
            raise UnsafePickleError(
                f"asks for {self._asked:,} bytes of numbers, but has {self._size:,} in all"
            )
        self.stack.append(_Storage(numel))


_TENSOR = _Thing()
_VALUES: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: _List(),
    "EMPTY_DICT": lambda _: _THING,
    "EMPTY_SET": lambda _: _THING,
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


def _check_key(key: Any) -> None:
    """Check a key of a dictionary or a set: to hash nested tuples may take any time."""
    parts = key if isinstance(key, tuple) else (key,)
    for part in parts:
        if not isinstance(part, _ATOMS) or (isinstance(part, int) and abs(part) > _LARGEST_KEY):
            raise UnsafePickleError("holds a dictionary whose keys are no plain values")


def _allowed(module: str, name: str) -> _Global:
    # As torch does: old names of Python 2 stand for their successors.
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    module = IMPORT_MAPPING.get(module, module)
    path = f"{module}.{name}"
    is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
    if path not in _CALLED and path not in _TYPES and not is_dtype and _item_bytes(path) is None:
        shown = path.removeprefix("builtins.")
        raise UnsafePickleError(
            f"holds {shown}, which weights-only loading refuses because unpickling it could run code "
            "or take any memory; save it again with tensors and plain values only"
        )
    return _Global(path)


def _item_bytes(path: str) -> int | None:
    """Return the bytes of one number of a storage; None for what is no storage type."""
    module, _, name = path.rpartition(".")
    if module not in ("torch", "torch.cuda", "torch.storage") or not name.endswith("Storage"):
        return None
    return _ITEM_BYTES.get(name.removesuffix("Storage"))


def _called(path: str, arguments: tuple[Any, ...]) -> Any:
    """Return what a call gives, after the checks that its function does not make itself."""
    if path not in _CALLED:
        raise UnsafePickleError(f"calls {path}, which no file of tensors needs to")
    return _CALLED[path](arguments)


def _tensor(arguments: tuple[Any, ...]) -> Any:
    """`_rebuild_tensor(storage, offset, size, stride, ...)`, which lets a storage grow to the size."""
    storage, offset, size, stride = arguments[:4]
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise ValueError("no storage behind a tensor")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("sizes that are no whole numbers")
    end = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) + 1
    if all(size) and end > storage.numel:
        raise UnsafePickleError(
            f"holds a tensor of shape {tuple(size)} over {storage.numel:,} numbers"
        )
    return _TENSOR


def _of_type(arguments: tuple[Any, ...]) -> Any:
    """`_rebuild_from_type_v2(function, type, arguments, state)`."""
    function, _, inner, _ = arguments
    if not isinstance(function, _Global) or _CALLED.get(function.path) is not _tensor:
        raise UnsafePickleError("holds a tensor of a type of its own")
    return _tensor(inner)


def _hashed(arguments: tuple[Any, ...], key_of: Callable[[Any], Any] = lambda value: value) -> Any:
    """A set, or with the first of each pair as its key a dictionary."""
    for values in arguments:
        for value in values if isinstance(values, (list, tuple)) else ():
            _check_key(key_of(value))
    return _Thing()


def _encoded(arguments: tuple[Any, ...]) -> Any:
    """Bytes in Python 2's manner; other codecs could double them again and again."""
    text, codec = arguments
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise UnsafePickleError("holds bytes in another encoding than Latin-1")
    return text


_STAND_INS = [one[1] if isinstance(one, tuple) else "argparse.Namespace" for one in ALLOWED]
_HARMLESS = (
    "builtins.complex",
    "torch.device",
    "torch._utils._rebuild_meta_tensor_no_storage",
    "torch._utils._rebuild_sparse_tensor",
    "torch.serialization._get_layout",
)
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_CALLED: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    **dict.fromkeys((*_STAND_INS, *_HARMLESS), lambda arguments: _Thing()),
    **dict.fromkeys((f"torch._utils.{name}" for name in _TENSORS), _tensor),
    "torch._tensor._rebuild_from_type_v2": _of_type,
    **dict.fromkeys(
        (
            "torch._utils._rebuild_parameter",
            "torch._utils._rebuild_parameter_with_state",
            "torch.nn.parameter.Parameter",
        ),
        lambda arguments: _TENSOR,
    ),
    "torch.Size": lambda arguments: arguments[0],
    "builtins.set": _hashed,
    "collections.Counter": _hashed,
    "collections.OrderedDict": lambda arguments: _hashed(arguments, lambda pair: pair[0]),
    "_codecs.encode": _encoded,
}
"""The functions that may be called, and the checks before each call."""
_TYPES = ("torch.Tensor",)
