"""The files that lie beside a record, found safely and checked before anything is made of them."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType

import numpy as np

from micl_bench.records.evidence.evidence import Evidence
from micl_bench.records.evidence.read import read_evidence
from micl_bench.records.result import Record
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.runtime.npz import Arrays, read_npz

Reader = Callable[[Path], object]
EVIDENCE = "evidence"
"""The name in records of the file that their metrics are computed from."""
# The evidence of a whole ImageNet takes some ten megabytes.
_KEPT_AT_ONCE = 16


def artifact_path(record: Record, name: str) -> Path | None:
    """Return the file that a record names, or None where it names none or the file is gone.

    Raises:
        InputError: the path leads out of the record's folder, or to something that is no file.
    """
    relative = record.artifacts.get(name)
    if relative is None:
        return None
    there = PureWindowsPath(relative)
    leads_out = PurePosixPath(relative).is_absolute() or there.anchor or ".." in there.parts
    folder = record.path.parent
    path = folder / relative
    if not leads_out:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no regular file"
            raise InputError(f"{path}, which record {record.path.name} names, is {kind}")
        if not path.exists():
            return None
        path = path.resolve()
    if leads_out or not path.is_relative_to(folder.resolve()):
        raise InputError(
            f"{record.path}: artefact {name!r} is {relative!r}, which leads out of the record's folder; "
            "it must be a relative path without '..'"
        )
    return path


def check_digest(path: Path, record: Record, name: str) -> None:
    """Check that an artefact has the SHA-256 in its record; without one, any file passes.

    Raises:
        InputError: it has another, or cannot be read.
    """
    digest = record.digests.get(name, "")
    try:
        same = not digest or digest_file(path) == digest
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if not same:
        raise InputError(
            f"{path} is not the file that record {record.path.name} was written with: its SHA-256 "
            "differs"
        )


def evidence_of(record: Record) -> Evidence | None:
    """Return the evidence of a record, which is kept for further calls; None where it has none.

    Raises:
        InputError: the file is damaged, lies outside the record's folder, is not the one whose digest
            the record has, contradicts itself, or does not give the record's metrics.
    """
    path = artifact_path(record, EVIDENCE)
    if path is None or not record.evidence:
        return None
    # Where the file changed since, it is read anew.
    return _read(record, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=_KEPT_AT_ONCE)
def _read(record: Record, path: Path, changed: int) -> Evidence:
    check_digest(path, record, EVIDENCE)
    found = read_evidence(path, record.evidence)
    try:
        found.check(record.values)
    except InputError as error:
        raise InputError(
            f"{path} is not what record {record.path.name} rests on: {error}"
        ) from error
    return found


def fault_of(
    record: Record, name: str, readers: Mapping[str, Reader] = MappingProxyType({})
) -> str | None:
    """Return the fault of an artefact of a record: empty for none, None where the file is gone.

    Args:
        readers: by artefact, the function that reads and checks the file of a picture; a file
            without one must only hold arrays.
    """
    try:
        path = artifact_path(record, name)
        if path is None:
            return None
        check_digest(path, record, name)
        if name == EVIDENCE:
            evidence_of(record)
        elif name in readers:
            readers[name](path)
        elif path.suffix == ".npz":
            read_npz(path)
    except InputError as error:
        return str(error)
    return ""


def without_folder(record: Record, text: str) -> str:
    """Return the words on a file's fault without the folder in which the store lies."""
    parent = record.path.parent
    for folder in (parent.resolve(), parent):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def gone(record: Record, name: str) -> str:
    """Return in words why a picture of an artefact is left out."""
    file = record.artifacts.get(name)
    if file is None:
        return f"record {record.id} names no such file"
    return f"{file}, which record {record.id} names, is gone or empty"


def load_arrays(path: Path, names: list[str], *, optional: Sequence[str] = ()) -> Arrays:
    """Read named arrays of an `.npz` file, whose shapes must fit the letters at the ends of their names.

    Those in `optional` are read where the file has them.

    `images_NHWC` has four axes, and each letter has one size in the whole file; a digit, as in
    `box_D4`, is a size itself. Pickled objects are never loaded.

    Raises:
        InputError: the file is damaged, lacks an array, or the shapes do not fit.
    """
    found = read_npz(path)
    if missing := [name for name in names if name not in found]:
        raise InputError(f"{path} lacks {', '.join(missing)}")
    arrays = {name: found[name] for name in (*names, *optional) if name in found}
    if (images := arrays.get("images_NHWC")) is not None and (
        images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size
    ):
        raise InputError(
            f"{path}: images_NHWC is no array of colour pictures, bytes of N, H, W and 3"
        )
    if (classes := arrays.get("classes")) is not None and classes.ndim != 1:
        raise InputError(f"{path}: classes is no list of names")
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


def check_numbers(path: Path, arrays: Arrays, *names: str) -> None:
    """Check that arrays hold one finite number each.

    Raises:
        InputError: one does not.
    """
    for name in names:
        array = arrays[name]
        if array.size != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise InputError(f"{path}: {name} is not one number")


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
