"""The names that a pickle may mention and call, with the checks that come before each call.

Values are stand-ins: `Storage` for the numbers behind tensors, `Thing` for most others.
"""

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.allowlist import ALLOWED

_LARGEST_KEY = 1 << 60
_ITEM_BYTES = {
    "Untyped": 1, "Bool": 1, "Byte": 1, "Char": 1, "Short": 2, "Half": 2, "BFloat16": 2, "Int": 4,
    "Float": 4, "Long": 8, "Double": 8, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip
"""The bytes of one number, by the kind of a storage; quantised ones are not read."""
_ATOMS = (str, bytes, int, float, type(None))


class UnsafePickleError(InputError):
    """A pickle that would do more than hold tensors and plain values."""


class Global(NamedTuple):
    """A name that the pickle mentions."""

    path: str


class Storage(NamedTuple):
    """The numbers behind tensors."""

    numel: int


class Thing:
    """Any other value: a dictionary, a tensor, an object."""


THING = Thing()
TENSOR = Thing()


def check_key(key: Any) -> None:
    """Refuse a key that is no plain value: nested tuples may take any time to hash."""
    parts = key if isinstance(key, tuple) else (key,)
    for part in parts:
        if not isinstance(part, _ATOMS) or (isinstance(part, int) and abs(part) > _LARGEST_KEY):
            raise UnsafePickleError("holds a dictionary whose keys are no plain values")


def allowed(module: str, name: str) -> Global:
    """Return the name that a pickle mentions, or raise an UnsafePickleError where it may not."""
    # As torch does: old names of Python 2 stand for their successors.
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    module = IMPORT_MAPPING.get(module, module)
    path = f"{module}.{name}"
    is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
    if path not in _CALLED and path not in _TYPES and not is_dtype and bytes_per_item(path) is None:
        shown = path.removeprefix("builtins.")
        raise UnsafePickleError(
            f"holds {shown}, which weights-only loading refuses because unpickling it could run code "
            "or take any memory; save it again with tensors and plain values only"
        )
    return Global(path)


def bytes_per_item(path: str) -> int | None:
    """Return the bytes of one number of a storage of that name; None where it names no storage."""
    module, _, name = path.rpartition(".")
    if module not in ("torch", "torch.cuda", "torch.storage") or not name.endswith("Storage"):
        return None
    return _ITEM_BYTES.get(name.removesuffix("Storage"))


def called(path: str, arguments: tuple[Any, ...]) -> Any:
    """Return a stand-in for a call's result, once the checks that its function lacks are made."""
    if path not in _CALLED:
        raise UnsafePickleError(f"calls {path}, which no file of tensors needs to")
    return _CALLED[path](arguments)


def _tensor(arguments: tuple[Any, ...]) -> Any:
    """Check `_rebuild_tensor(storage, offset, size, stride, ...)`, which would let a storage grow."""
    storage, offset, size, stride = arguments[:4]
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or len(size) != len(stride):
        raise ValueError("no storage behind a tensor")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("sizes that are no whole numbers")
    end = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) + 1
    if all(size) and end > storage.numel:
        raise UnsafePickleError(
            f"holds a tensor of shape {tuple(size)} over {storage.numel:,} numbers"
        )
    return TENSOR


def _of_type(arguments: tuple[Any, ...]) -> Any:
    """Check `_rebuild_from_type_v2(function, type, arguments, state)`."""
    function, _, inner, _ = arguments
    if not isinstance(function, Global) or _CALLED.get(function.path) is not _tensor:
        raise UnsafePickleError("holds a tensor of a type of its own")
    return _tensor(inner)


def _hashed(arguments: tuple[Any, ...], key_of: Callable[[Any], Any] = lambda value: value) -> Any:
    """Check the keys of a set, or of a dictionary given as pairs."""
    for values in arguments:
        for value in values if isinstance(values, (list, tuple)) else ():
            check_key(key_of(value))
    return Thing()


def _encoded(arguments: tuple[Any, ...]) -> Any:
    """Check bytes as Python 2 wrote them; other codecs could double them again and again."""
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
    **dict.fromkeys((*_STAND_INS, *_HARMLESS), lambda arguments: Thing()),
    **dict.fromkeys((f"torch._utils.{name}" for name in _TENSORS), _tensor),
    "torch._tensor._rebuild_from_type_v2": _of_type,
    **dict.fromkeys(
        (
            "torch._utils._rebuild_parameter",
            "torch._utils._rebuild_parameter_with_state",
            "torch.nn.parameter.Parameter",
        ),
        lambda arguments: TENSOR,
    ),
    "torch.Size": lambda arguments: arguments[0],
    "builtins.set": _hashed,
    "collections.Counter": _hashed,
    "collections.OrderedDict": lambda arguments: _hashed(arguments, lambda pair: pair[0]),
    "_codecs.encode": _encoded,
}
"""Each name that may be called has its check."""
_TYPES = ("torch.Tensor",)
