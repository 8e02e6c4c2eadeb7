"""Features of a frozen backbone as they lie on disk; `cache.py` computes them.

    about.json       what they depend on, what the arrays are, SHA-256 of each file
    cls_1.npy ...    one array per readout (features.py): (images, width) fp32
    labels.npy       (images,) int64: places in the list of classes
    files.txt        one name per line, for people

Shapes: N images, D width.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from micl_bench.data.source import Source
from micl_bench.records.provenance import environment
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.runtime.log import say
from micl_bench.runtime.validate import read_json

ABOUT = "about.json"
_GIB = 1 << 30
_LABELS, _FILES = "labels.npy", "files.txt"
# The parts of the environment that records say of stored features.
_NAMED = ("torch", "timm", "processor", "gpus")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _About:
    """Content of about.json."""

    readouts: tuple[str, ...]
    settings: dict[str, Any]
    of: dict[str, Any]
    """The description whose digest is the key."""
    sha256: dict[str, str]
    computed_with: dict[str, str]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of N images on disk; nothing is read before it is asked for."""

    folder: Path
    labels_N: Tensor
    """int64: places in the source's list of classes."""
    readouts: tuple[str, ...]
    settings: dict[str, Any]
    """The settings that move a number: `norm`, `precision` as it was seen, how images were read."""
    origin: dict[str, Any]
    """`key`; whether they were `read` as an earlier call left them; the `seconds` that computing them
    took then or now, and what they were `computed_with`."""
    digests: dict[str, str]
    """SHA-256 of each file, by name."""

    def __len__(self) -> int:
        return len(self.labels_N)

    def tensor(self, readout: str) -> Tensor:
        """(N, D) fp32, mapped; changes to it stay in memory.

        Raises:
            InputError: the model has no such readout, or the file is damaged.
        """
        if readout not in self.readouts:
            raise InputError(
                f"the model has no {readout}; it has {', '.join(self.readouts)}"
                + ("" if "cls_1" in self.readouts else " (no [CLS]: use pool=avg)")
            )
        array = _mapped(self.folder / f"{readout}.npy", self.digests)
        if array.ndim != 2 or len(array) != len(self) or array.dtype != np.float32:
            raise _damaged(self.folder)
        return torch.from_numpy(array)


def open_features(folder: Path, images: int, *, computed: bool) -> Features:
    """Open the features in a folder; `Features.origin` says whether this call `computed` them."""
    try:
        about = read_json(folder / ABOUT, _About)
    except InputError as error:
        raise InputError(f"{error}; {_damaged(folder)}") from error
    labels = np.array(_mapped(folder / _LABELS, about.sha256))
    if labels.shape != (images,) or labels.dtype != np.int64:
        raise _damaged(folder)
    computed_with = {k: about.computed_with[k] for k in _NAMED if k in about.computed_with}
    return Features(
        folder=folder,
        labels_N=torch.from_numpy(labels),
        readouts=about.readouts,
        settings=about.settings,
        origin={
            "key": folder.name,
            "read": not computed,
            "seconds": about.seconds,
            "computed_with": computed_with,
        },
        digests=about.sha256,
    )


def reserve(folder: Path, names: tuple[str, ...], shape: tuple[int, int], label: str) -> None:
    """Make an fp32 array of a shape for each name, `<name>.npy`, with its place on the disk."""
    needed = len(names) * shape[0] * shape[1] * np.dtype(np.float32).itemsize
    free = shutil.disk_usage(folder).free
    sizes = f"{needed / _GIB:,.2f} GiB in {folder.parent}, where {free / _GIB:,.2f} are free"
    if needed > free:
        raise InputError(
            f"{label} need {sizes}; free some, or set MICL_BENCH_CACHE to a folder on another disk"
        )
    if needed >= _GIB:
        say(f"{label} take {sizes}")
    for name in names:
        path = folder / f"{name}.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        with path.open("r+b") as file:
            # Not a hole in a file, which a disk that fills up meanwhile could not hold.
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def write_rows(
    folder: Path, names: tuple[str, ...], own: range, slices: Iterable[tuple[int, Tensor, str]]
) -> bool:
    """Write this process's own rows into the arrays; returns whether each came once.

    Not through mapped memory: hosts that share a file over a network would overwrite each other's
    rows where these meet in a page.
    """
    done, in_order = own.start, True
    with ExitStack() as stack:
        files = []
        for name in names:
            mapped = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            file = stack.enter_context((folder / f"{name}.npy").open("r+b"))
            file.seek(mapped.offset + own.start * mapped[0].nbytes)
            files.append(file)
        for first, rows_nRD, _ in slices:
            in_order &= first == done
            done += len(rows_nRD)
            for file, rows_nD in zip(files, rows_nRD.unbind(dim=1), strict=True):
                file.write(rows_nD.contiguous().numpy().tobytes())
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    return in_order and done == own.stop


def complete(folder: Path, source: Source, **about: Any) -> None:
    """Write what belongs to a folder's arrays; `about` are the other fields of about.json."""
    np.save(folder / _LABELS, np.asarray(source.labels_N), allow_pickle=False)
    listing = "".join(f"{name}\n" for name in source.names)
    (folder / _FILES).write_bytes(listing.encode(errors="surrogateescape"))
    digests = {path.name: digest_file(path) for path in sorted(folder.iterdir())}
    content = dataclasses.asdict(_About(sha256=digests, computed_with=environment(), **about))
    (folder / ABOUT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _mapped(path: Path, digests: dict[str, str]) -> np.memmap:
    """The array of a file whose content is the digest's."""
    try:
        if digest_file(path) != digests[path.name]:
            raise ValueError
        # Copy on write: torch takes no read-only memory, and nobody may change the file.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise _damaged(path.parent) from error
    assert isinstance(array, np.memmap)
    return array


def _damaged(folder: Path) -> InputError:
    return InputError(f"{folder} holds damaged features; remove the folder")
