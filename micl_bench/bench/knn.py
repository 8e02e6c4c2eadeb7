"""The time and memory of the k-NN search, on any number of synthetic features.

The features lie in a file, mapped, as the stored ones of a real checkpoint. A search of part of the
queries is timed at two sizes; a straight line through both gives the time of all: what is read once
whatever the queries, and what each of them costs.
"""

import dataclasses
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from micl_bench.bench.machine import MIB, resident_mib
from micl_bench.engine.frozen.neighbours import nearest_keys, search_bytes
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress
from micl_bench.runtime.values import LARGEST, Count, Values, Within

_SEED = 0
_ROWS = 1 << 14
_LOOK_SECONDS = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnnSettings(Values):
    """Sizes of the search; ImageNet's and ViT-L's by default."""

    train: Count = 1_281_167
    width: Count = 1024
    queries: Count = 50_000
    measured: Annotated[int, Within(2, LARGEST)] = 2048
    """Queries that are really searched for."""
    k: Count = 200
    rounds: Count = 3
    memory_mib: Count = 2048
    """Memory that the search may take, in MiB."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k > self.train:
            raise InputError(
                f"k is {self.k}, of {self.train} features; needed: at most all of them"
            )
        if self.measured > self.queries:
            raise InputError(
                f"measured is {self.measured}, of {self.queries} queries; needed: 2 to all of them"
            )


def bench_knn(settings: KnnSettings, device: torch.device) -> dict[str, Any]:
    """Medians of rounds.

    Raises:
        InputError: sizes that do not go together, or too little disk.
    """
    sizes = (settings.measured // 2, settings.measured)
    seconds: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory(prefix="micl-bench-knn-") as folder:
        keys_ND = _mapped_keys(Path(folder), settings)
        generator = torch.Generator().manual_seed(_SEED + 1)
        queries_MD = torch.randn(settings.measured, settings.width, generator=generator)
        with (
            _peak_memory() as peak,
            Progress("bench knn", total=settings.rounds * len(sizes)) as progress,
        ):
            for _ in range(settings.rounds):
                for size in sizes:
                    seconds[size].append(_seconds(keys_ND, queries_MD[:size], settings, device))
                    progress.step(f"{size} queries")
    halves, wholes = (
        [statistics.median(times) for times in zip(*seconds[size], strict=True)] for size in sizes
    )
    (half, _), (whole, processor) = halves, wholes
    of_all, processor_of_all = (
        b + max(0.0, b - a) / (sizes[1] - sizes[0]) * (settings.queries - settings.measured)
        for a, b in zip(halves, wholes, strict=True)
    )
    budget = settings.memory_mib * MIB
    needed = search_bytes(settings.train, settings.queries, width=settings.width, k=settings.k)
    return {
        "name": "knn",
        "queries_measured": settings.measured,
        "seconds_half": round(half, 3),
        "seconds_measured": round(whole, 3),
        "seconds_extrapolated": round(of_all, 1),
        "processor_seconds_measured": round(processor, 3),
        "processor_seconds_extrapolated": round(processor_of_all, 1),
        "peak_mib": round(max(peak), 1),
        "planned_mib_of_all": round(min(needed, budget) / MIB, 1),
        "flop_per_second": 2 * settings.train * settings.width * settings.measured / whole,
    }


def _seconds(
    keys_ND: Tensor, queries_MD: Tensor, settings: KnnSettings, device: torch.device
) -> tuple[float, float]:
    """By the clock, and of the processor: the second hardly minds what else the machine does."""
    start = time.perf_counter(), time.process_time()
    nearest_keys(keys_ND, queries_MD, k=settings.k, device=device, memory_mib=settings.memory_mib)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def _mapped_keys(folder: Path, settings: KnnSettings) -> Tensor:
    """Normally distributed features in a file."""
    shape = settings.train, settings.width
    needed, free = shape[0] * shape[1] * 4, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the features need {needed / 1e9:.1f} GB in {folder.parent}, where {free / 1e9:.1f} are "
            "free; set TMPDIR to a folder on another disk"
        )
    path = folder / "keys.npy"
    keys = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    random = np.random.default_rng(_SEED)
    starts = range(0, settings.train, _ROWS)
    with Progress("synthetic features", total=len(starts)) as progress:
        for start in starts:
            rows = keys[start : start + _ROWS]
            rows[:] = random.standard_normal(rows.shape, dtype=np.float32)
            progress.step()
    keys.flush()
    del keys
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """MiB of this process that no file backs, looked at all the time: pages of the mapped file come
    and go as the system likes."""
    seen, ended = [resident_mib("RssAnon:")], threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_SECONDS):
            seen.append(resident_mib("RssAnon:"))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
