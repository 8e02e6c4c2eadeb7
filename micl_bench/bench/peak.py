"""The most memory that something takes: of a GPU what PyTorch held, else what a process had resident.

A process keeps what it once took, so on a CPU each thing that is measured runs in one of its own, and
what the process had before does not count.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.processes import begin_helper, how_it_ended, starting

T = TypeVar("T")

_MIB = 1 << 20
# Forked from a server that has imported everything and run nothing.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["micl_bench.bench.dense", "micl_bench.bench.iteration"])
_PROCESS = Path("/proc/self")


class Peak:
    """Watches from where it is made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device) / _MIB
        else:
            # Forgets the peak of what was imported.
            (_PROCESS / "clear_refs").write_text("5", encoding="ascii")
            self._before = _resident("VmRSS:")

    def mib(self) -> int:
        """Since then, at the worst moment."""
        if self._device.type == "cuda":
            now = torch.cuda.max_memory_allocated(self._device) / _MIB
        else:
            now = _resident("VmHWM:")
        return round(now - self._before)


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """What the function returns, called in a fresh process; both must be picklable.

    Raises:
        InputError: the function raised anything, which is told in one line, or the process ended
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
    # A recipe is a program of the user's: whatever it raises is told, and no stack beside it.
    except Exception as error:
        sender.send((None, " ".join(f"{type(error).__name__}: {error}".split())))


def _resident(name: str) -> float:
    """MiB of this process."""
    lines = (_PROCESS / "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
