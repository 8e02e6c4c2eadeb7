"""Processes that help this one, and in words what became of them or what the system refuses.

They end when this process does, however it ends, and print no traces: a process of Python's
`multiprocessing` calls `begin_helper` first of all; programs of their own are started by
`suites.execute`.
"""

import math
import os
import re
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
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
"""The disk in memory where processes keep what they share: batches and semaphores."""
# The semaphores of a process's queues, a page each.
_SHARED_BYTES = 1 << 16
_LOOK_EVERY_SECONDS = 1.0
_AGAIN_SECONDS = 0.05
_PLENTY_BYTES = 8 << 30
_ROOM_BYTES = 1 << 28
_NO_MEMORY = (
    "allocate memory",
    "failed to map segment",
    "defaultcpuallocator",
    "bad_alloc",
    "unable to allocate",
    "not enough memory",
)


@contextmanager
def starting(processes: int) -> Iterator[None]:
    """Start processes inside of this block: they ignore Ctrl-C while they import, and print no trace.

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
    """Make this process end with its parent, which alone reports an interrupt.

    Args:
        leaves_at_interrupt: end at Ctrl-C too; else the parent decides when.
    """
    if leaves_at_interrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(1))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()


def end_with_parent() -> None:
    """End this process soon after the one that started it has ended."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    # Here, and `subprocess` below: `micl-bench --help` starts a tenth faster without them.
    import multiprocessing
    from multiprocessing.connection import wait

    # The pipe is at once, but processes that were forked later hold its other end too.
    started_by = multiprocessing.parent_process()
    pipes = [started_by.sentinel] if started_by else []
    while not wait(pipes, _LOOK_EVERY_SECONDS) and os.getppid() == parent:
        pass
    os._exit(1)


def how_it_ended(code: int | None) -> str:
    """Return an exit code of a process in words."""
    if code in _WORDS:
        return _WORDS[code]
    if code is None:
        return "does not answer"
    if code == -signal.SIGKILL:
        return "was killed, which a system does where memory runs out"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


class Patience:
    """Bounds a wait for another process, by the looks that found nothing, not by the clock.

    The clock runs on while a whole job is stopped (suspended by Slurm, paused by docker, Ctrl-Z), when
    nobody could have answered: that counts as one look.

    Args:
        seconds: the longest wait.
        every: seconds that one look takes, with the pause after it.
    """

    def __init__(self, seconds: float, *, every: float) -> None:
        self._most = max(1, math.ceil(seconds / every))
        self._failed = 0

    def ends(self) -> bool:
        """Count a look that found nothing, and return True where it was the last."""
        self._failed += 1
        return self._failed >= self._most

    def begin_again(self) -> None:
        """Forget the looks so far: one found something."""
        self._failed = 0


def explained(error: BaseException) -> str:
    """Say in one line what to do about an error of the system; empty for any other error."""
    text = str(error)
    words = text.lower()
    if "dataloader worker" in words:
        return _of_a_worker(text)
    if "out of memory" in words and ("cuda" in words or "gpu" in words):
        return (
            "the GPU has too little memory; set a smaller batch_size or micro_batch, or end what else "
            "runs on it"
        )
    if isinstance(error, MemoryError) or any(word in words for word in _NO_MEMORY):
        return (
            f"there is too little memory{_limit()}; give more, or set a smaller batch or image size"
        )
    if "can't start new thread" in words:
        return "the system starts no more threads; raise the limit (ulimit -u), or set OMP_NUM_THREADS=1"
    return ""


def guard_imports() -> None:
    """Where memory is limited (ulimit -v), let another process try to import torch before this one.

    Torch's libraries do not raise where memory ends; they abort, some without a word.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _PLENTY_BYTES:
        sys.meta_path.insert(0, _Guard())


def guard_interrupts() -> None:
    """Let an interrupt that is swallowed come again.

    Where Python code is called from an extension or a finaliser, such as in the import of a library,
    Python prints an exception and goes on.
    """
    sys.unraisablehook = _again


def _again(unraisable: "sys.UnraisableHookArgs") -> None:
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    # From a thread: raised here, it would be swallowed too.
    timer = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()


class _Guard(MetaPathFinder):
    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Find nothing; raise a MemoryError where torch would not get in."""
        if name != "torch":
            return
        import subprocess

        sys.meta_path.remove(self)
        code = f"import timm, torch; bytearray({_ROOM_BYTES})"
        if subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=False
        ).returncode:
            raise MemoryError


def _of_a_worker(text: str) -> str:
    if found := re.search(r"exit code (\d+)", text):
        return f"a process that reads images {how_it_ended(int(found[1]))}"
    if "Bus error" in text:
        return f"a process that reads images {how_it_ended(NO_ROOM)}"
    if "Killed" in text:
        return f"a process that reads images {how_it_ended(-9)}; fewer num_workers take less"
    return "a process that reads images ended early; num_workers=0 may show why"


def _limit() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return "" if limit == resource.RLIM_INFINITY else f" (ulimit -v allows {limit / 2**30:.1f} GiB)"
