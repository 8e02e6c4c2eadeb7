"""The parts that benchmarks share: rounds, peaks of memory, the machine, and the file of figures.

A process keeps the memory that it once took, so on a CPU each thing whose peak is measured runs in one
of its own, and what the process had before does not count.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from micl_bench.records.provenance import code_version, environment
from micl_bench.runs.precision import has_bfloat16
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.log import Progress
from micl_bench.runtime.processes import begin_helper, how_it_ended, starting

T = TypeVar("T")

MIB = 1 << 20
# Forked from a server that has imported everything and run nothing.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["micl_bench.bench.dense", "micl_bench.bench.iteration"])
_PROCESS = Path("/proc/self")


def this_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_precision(device: torch.device) -> str:
    """Return `bf16` where the device multiplies bfloat16 in hardware, else `fp32`."""
    return "bf16" if has_bfloat16(device) else "fp32"


def machine_load() -> float:
    """Return the processes that ran or waited to, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def in_turn(
    label: str, ways: Mapping[str, Callable[[], float]], *, rounds: int
) -> dict[str, list[float]]:
    """Return what each way measures in each round: every way once, so that a slow minute of the machine
    harms them all. A round before, which compiles, allocates and fills caches, does not count."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    with Progress(label, total=(rounds + 1) * len(ways)) as progress:
        for number in range(rounds + 1):
            for name, measure in ways.items():
                value = measure()
                found[name] += [value] if number else []
                progress.step(name)
    return found


def write_figures(
    path: Path,
    *,
    benchmark: str,
    results: Sequence[dict[str, Any]],
    settings: dict[str, Any],
    load: float,
) -> None:
    """Write results with what they were measured on.

    Args:
        load: `machine_load` before the measurement.
    """
    content = {
        "benchmark": benchmark,
        "results": list(results),
        "settings": settings,
        "code_version": code_version(),
        "environment": environment(),
        "load_before": load,
    }
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())


class Peak:
    """The most memory that is taken from where it is made: what PyTorch held of a GPU, else what this
    process had resident."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device) / MIB
        else:
            # Forgets the peak of what was imported.
            (_PROCESS / "clear_refs").write_text("5", encoding="ascii")
            self._before = resident_mib("VmRSS:")

    def mib(self) -> int:
        """The largest memory since then, in MiB."""
        if self._device.type == "cuda":
            now = torch.cuda.max_memory_allocated(self._device) / MIB
        else:
            now = resident_mib("VmHWM:")
        return round(now - self._before)


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a fresh process and return what it returns; both must be picklable.

    Raises:
        InputError: the function raised anything, which is reported in one line, or the process ended
            without an answer.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_answer, args=(sender, function, arguments))
    with starting(1):
        process.start()
    sender.close()
    try:
        value, refused = receiver.recv()
    except EOFError:
        process.join()
        raise InputError(f"the process that is measured {how_it_ended(process.exitcode)}") from None
    finally:
        # It has answered, or nobody waits for it any more.
        process.kill()
        process.join()
    if refused:
        raise InputError(refused)
    found: T = value
    return found


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    begin_helper()
    try:
        sender.send((function(*arguments), ""))
    except InputError as error:
        sender.send((None, str(error)))
    # A recipe is a program of the user's: whatever it raises is reported, without a stack.
    except Exception as error:
        sender.send((None, " ".join(f"{type(error).__name__}: {error}".split())))


def resident_mib(name: str) -> float:
    """MiB of this process, by their name in /proc: `VmRSS:` now, `VmHWM:` at most, ..."""
    lines = (_PROCESS / "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
