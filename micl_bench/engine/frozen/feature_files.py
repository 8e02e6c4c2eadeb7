"""Arrays on disk that several processes fill, each its own rows; one run at a time.

Shapes: N images, D width, R readouts.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from micl_bench.runtime.distributed import from_first, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.locks import Lock
from micl_bench.runtime.log import say

_GIB = 1 << 30
_POLL_SECONDS = 0.5


@contextmanager
def waited_turn(path: Path) -> Iterator[None]:
    """Keep other runs from the same work meanwhile, or wait for the one that is at it.

    Every process of a run must call it; the first one holds the lock, `path`, which goes at the end; a
    kill frees it.
    """
    lock = Lock(path) if rank() == 0 else None
    said = False
    try:
        # The others hear of every try: a collective operation would give up after half an hour.
        while not from_first(lock is not None and lock.take()):
            if not said:
                say("another run computes the same features; waiting for it")
                said = True
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        if lock:
            lock.release()


def reserve(folder: Path, names: Sequence[str], shape: tuple[int, int], label: str) -> None:
    """Make an fp32 array of a shape for each name, `<name>.npy`, with its place on the disk.

    Raises:
        InputError: too little disk.
    """
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


Span = tuple[int, int]
"""First row, and the one behind the last."""


class RowWriter:
    """Writes rows into arrays that `reserve` made, and keeps account of which.

    Not through mapped memory: hosts that share a file over a network would overwrite each other's
    rows where these meet in a page.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths, self._stack = paths, ExitStack()
        self.spans: list[Span] = []
        """The rows that were written."""

    def __enter__(self) -> "RowWriter":
        mapped = [np.load(path, mmap_mode="r", allow_pickle=False) for path in self._paths]
        self._starts = [array.offset for array in mapped]
        self._files = [self._stack.enter_context(path.open("r+b")) for path in self._paths]
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        self._stack.close()

    def write(self, first: int, rows_nRD: Tensor) -> None:
        """Write rows from `first` on, of each array its own."""
        for file, start, rows_nD in zip(
            self._files, self._starts, rows_nRD.unbind(dim=1), strict=True
        ):
            rows = rows_nD.contiguous().numpy()
            file.seek(start + first * rows[0].nbytes)
            file.write(rows.tobytes())
        self.spans.append((first, first + len(rows_nRD)))


def require_every_row(spans: Iterable[Span], rows: int) -> None:
    """Raise a RuntimeError unless each row was written, and none twice: what was not is a zero, and
    no reader could tell."""
    end = 0
    for first, behind in sorted(spans):
        if first != end:
            raise RuntimeError(
                f"rows {min(first, end)} to {max(first, end) - 1} are not written once"
            )
        end = behind
    if end != rows:
        raise RuntimeError(f"{end} of {rows} rows are written")


def remove(folders: Iterable[Path]) -> None:
    """Remove what was not finished."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
