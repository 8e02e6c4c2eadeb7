"""Harmless objects that are read in the place of those that published files hold beside tensors.

Weights-only loading calls what a file names only where it stands in `ALLOWED`. All of it is written
here, but `argparse.Namespace`: no code of numpy or of a trainer sees a stranger's bytes.
"""

from argparse import Namespace
from collections import OrderedDict
from typing import Any

import numpy as np

# Numbers and their byte order; no objects, no records, no strings.
_NUMBERS = {f"{kind}{size}" for kind, sizes in (("f", "248"), ("iu", "1248")) for kind in kind
            for size in sizes} | {"b1"}  # fmt: skip

_LONGEST_PATH = 1 << 16


class UnreadError(ValueError):
    """A file holds what has no harmless stand-in; the message completes `it holds ...`."""


class NumpyNumber:
    """`numpy.dtype` of numbers: `NumpyNumber("f8", False, True)`, then its state with the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in _NUMBERS:
            raise UnreadError("numpy data of another type than numbers, which is not read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class NumpyArray:
    """`numpy.ndarray` of numbers, as `values` (float, any shape) once its state is set."""

    def __init__(self, *_: Any) -> None:
        self.values = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, NumpyNumber) or not isinstance(data, bytes):
            raise UnreadError("a numpy array of something else than numbers, which is not read")
        values = np.frombuffer(data, dtype.dtype)
        self.values = values.reshape(shape, order="F" if is_fortran else "C")


def numpy_scalar(dtype: NumpyNumber, data: bytes) -> Any:
    """Return one number of `numpy.core.multiarray.scalar` as Python's own."""
    if not isinstance(dtype, NumpyNumber) or not isinstance(data, bytes):
        raise UnreadError("a numpy scalar of something else than a number, which is not read")
    return np.frombuffer(data, dtype.dtype, count=1)[0].item()


def encode(text: str, _codec: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, with which pickles of protocol 2 write bytes."""
    return text.encode("latin1")


def path_text(*parts: str) -> str:
    """Return the text of a `pathlib.PosixPath` or its like, as options of a run hold it."""
    if not all(isinstance(part, str) for part in parts):
        raise UnreadError("a path of something else than text, which is not read")
    # Parts may be paths made of each other, each twice as long as the last.
    if sum(map(len, parts)) > _LONGEST_PATH:
        raise UnreadError(f"a path of more than {_LONGEST_PATH:,} characters, which is not read")
    return "/".join(parts)


class Table:
    """A trainer's dictionary (yacs' configuration), as a plain one."""

    def __new__(cls, *_: Any) -> Any:
        """Not of this class: torch fills plain dictionaries only."""
        return OrderedDict()


class Settings:
    """A node of OmegaConf's, whose `plain` is a dictionary, a list or a value."""

    plain: Any = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            return
        found = state.get("_content", state.get("_val"))
        if isinstance(found, dict):
            self.plain = {str(key): _plain(value) for key, value in found.items()}
        else:
            self.plain = [*map(_plain, found)] if isinstance(found, list) else _plain(found)


def _plain(value: Any) -> Any:
    return value.plain if isinstance(value, Settings) else value


class Inert:
    """An object of a trainer that nobody reads; its state is dropped."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        del state


def nothing(*_: Any) -> None:
    """Stand in for `getattr` in the state of mmengine's history, which names one of its functions."""


_SETTINGS = (
    "dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode", "nodes.StringNode",
    "nodes.IntegerNode", "nodes.FloatNode", "nodes.BooleanNode",
)  # fmt: skip
ALLOWED: tuple[Any, ...] = (
    Namespace,
    (NumpyNumber, "numpy.dtype"),
    *((numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((NumpyArray, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (NumpyArray, "numpy.ndarray"),
    (encode, "_codecs.encode"),
    # Python 3.13 writes `pathlib._local`.
    *(
        (path_text, f"{module}.{kind}")
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ),
    (Table, "yacs.config.CfgNode"),
    *((Settings, f"omegaconf.{name}") for name in _SETTINGS),
    *((Inert, f"omegaconf.base.{name}") for name in ("ContainerMetadata", "Metadata")),
    (Inert, "typing.Any"),
    *((Inert, f"builtins.{name}") for name in ("dict", "list", "int", "str", "float", "bool")),
    (Table, "collections.defaultdict"),
    (Inert, "mmengine.logging.history_buffer.HistoryBuffer"),
    (nothing, "__builtin__.getattr"),
    (nothing, "builtins.getattr"),
)
"""Callables, or pairs of a callable and the name in a file that it stands in for."""
