"""The arrays and logs that lie beside a record, found safely and checked before they are drawn."""

import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.errors import InputError
from micl_bench.record import Result

Arrays = dict[str, NDArray[Any]]


def artifact_path(record: Path, result: Result, name: str) -> Path | None:
    """The file that a record names, or None where it names none or the file is gone.

    Raises:
        InputError: the path leads out of the record's folder.
    """
    relative = result.artifacts.get(name)
    if relative is None:
        return None
    there = PureWindowsPath(relative)
    leads_out = PurePosixPath(relative).is_absolute() or there.anchor or ".." in there.parts
    path = record.parent / relative
    if not leads_out:
        if not path.is_file():
            return None
        path = path.resolve()
    if leads_out or not path.is_relative_to(record.parent.resolve()):
        raise InputError(
            f"{record}: artefact {name!r} is {relative!r}, which leads out of the record's folder; "
            "it must be a relative path without '..'"
        )
    return path


def gone(result: Result, name: str) -> str:
    """Why a picture of an artefact is left out, in words."""
    file = result.artifacts.get(name)
    if file is None:
        return f"record {result.id} names no such file"
    return f"{file}, which record {result.id} names, is gone or empty"


def load_arrays(path: Path, names: list[str]) -> Arrays:
    """Named arrays of an `.npz` file, with the shapes that the ends of their names promise.

    `images_NHWC` has four axes, and each letter has one size in the whole file; a digit, as in
    `box_D4`, is a size itself. Pickled objects are never loaded.

    Raises:
        InputError: the file is damaged, lacks an array, or the shapes do not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no readable set of {', '.join(names)}: {error}") from error
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        letters = name.rsplit("_", 1)[-1] if name[-1].isupper() or name[-1].isdigit() else ""
        wanted = [int(x) if x.isdigit() else sizes.get(x, -1) for x in letters]
        fits = len(wanted) == array.ndim and all(
            want in (-1, size) for want, size in zip(wanted, array.shape, strict=False)
        )
        if letters and not fits:
            raise InputError(f"{path}: {name} has shape {array.shape}, which does not fit {sizes}")
        sizes.update(zip(letters, array.shape, strict=False))
    return arrays


def check_range(path: Path, arrays: Arrays, name: str, *, below: int) -> None:
    """Check that an array of indices stays within what it points into.

    Raises:
        InputError: it does not.
    """
    values = arrays[name]
    if values.dtype.kind not in "iu":
        raise InputError(f"{path}: {name} holds {values.dtype}, it must hold whole numbers")
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < below:
        raise InputError(
            f"{path}: {name} runs from {values.min()} to {values.max()}, "
            f"allowed is 0 to {below - 1}"
        )
