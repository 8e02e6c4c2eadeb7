"""What published files hold beside tensors, and the harmless objects that are read in its place.

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


class NumpyNumber:
    """`numpy.dtype` of numbers: `NumpyNumber("f8", False, True)`, then its state with the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in _NUMBERS:
            raise ValueError(f"numpy data of type {code!r} is not read")
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
            raise ValueError("a numpy array of something else than numbers is not read")
        values = np.frombuffer(data, dtype.dtype)
        self.values = values.reshape(shape, order="F" if is_fortran else "C")


def numpy_scalar(dtype: NumpyNumber, data: bytes) -> Any:
    """`numpy.core.multiarray.scalar`: one number, as Python's own."""
    if not isinstance(dtype, NumpyNumber) or not isinstance(data, bytes):
        raise ValueError("a numpy scalar of something else than a number is not read")
    return np.frombuffer(data, dtype.dtype, count=1)[0].item()


def encode(text: str, _codec: str = "latin1") -> bytes:
    """`_codecs.encode`: how pickles of protocol 2 write bytes."""
    return text.encode("latin1")


def path_text(*parts: str) -> str:
    """`pathlib.PosixPath` and its like, as text: options of a run."""
    return "/".join(map(str, parts))


class Table:
    """A trainer's dictionary (yacs' configuration), as a plain one."""

    def __new__(cls, *_: Any) -> Any:
        """Not of this class: torch fills plain dictionaries only."""
        return OrderedDict()


class Inert:
    """An object of a trainer that nobody reads; its state is dropped."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        del state


def nothing(*_: Any) -> None:
    """`getattr` in the state of mmengine's history: which of its functions it had."""


ALLOWED: tuple[Any, ...] = (
    Namespace,
    (NumpyNumber, "numpy.dtype"),
    *((numpy_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((NumpyArray, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (NumpyArray, "numpy.ndarray"),
    (encode, "_codecs.encode"),
    *((path_text, f"pathlib.{kind}") for kind in ("PosixPath", "WindowsPath", "PurePosixPath")),
    (Table, "yacs.config.CfgNode"),
    (Inert, "mmengine.logging.history_buffer.HistoryBuffer"),
    (nothing, "__builtin__.getattr"),
    (nothing, "builtins.getattr"),
)
"""Callables, or pairs of a callable and the name in a file that it stands in for."""
