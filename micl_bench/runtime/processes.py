"""Processes that help this one: they end when it does, however it ends, and print no traces.

A process of Python's `multiprocessing` calls `begin_helper` first of all; programs of their own are
started by `suites.commands`.
"""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

from micl_bench.runtime.errors import InputError

NO_ROOM, NO_FILES, NOT_SENT = 75, 76, 77
"""Exit codes of a process that could not send what it made."""
_WORDS = {
    NO_ROOM: "found no room in /dev/shm; set num_workers=0 or lower, a smaller batch, or enlarge it "
    "(docker run --shm-size)",
    NO_FILES: "had too many open files; raise the limit (ulimit -n), or set num_workers=0",
    NOT_SENT: "could not send what it made; num_workers=0 may show why",
}
SHARED = Path("/dev/shm")
"""Where processes keep what they share, batches and semaphores: a disk in memory."""
# The semaphores of a process's queues, a page each.
_SHARED_BYTES = 1 << 16
_LOOK_EVERY_SECONDS = 1.0


@contextmanager
def starting(processes: int) -> Iterator[None]:
    """Start processes in here: they know no Ctrl-C while they import, which would print a trace each.

    An interrupt of this process is not lost, only late.

    Raises:
        InputError: the system has no room for what they share.
    """
    if SHARED.is_dir() and shutil.disk_usage(SHARED).free < (processes + 1) * _SHARED_BYTES:
        raise InputError(
            f"{SHARED} has no room for {processes} more processes; work without them, or enlarge it "
            "(docker run --shm-size)"
        )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_helper(*, leaves_at_interrupt: bool = True) -> None:
    """Make this process end with its parent, and leave the telling of an interrupt to it.

    Args:
        leaves_at_interrupt: end at Ctrl-C too; else the parent will say when.
    """
    if leaves_at_interrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(1))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()


def end_with_parent() -> None:
    """End this process soon after the one that started it has ended."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    # The pipe is at once, but processes that were forked later hold its other end too.
    started_by = multiprocessing.parent_process()
    pipes = [started_by.sentinel] if started_by else []
    while not wait(pipes, _LOOK_EVERY_SECONDS) and os.getppid() == parent:
        pass
    os._exit(1)


def how_it_ended(code: int | None) -> str:
    """An exit code of a process in words."""
    if code in _WORDS:
        return _WORDS[code]
    if code is None:
        return "does not answer"
    if code == -signal.SIGKILL:
        return "was killed, which a system does where memory runs out"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
