"""What the system refuses, in words for its user: memory, threads, and processes that were killed."""

import re
import resource
import subprocess
import sys
from importlib.abc import MetaPathFinder

from micl_bench.runtime.processes import NO_ROOM, how_it_ended

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


def explained(error: BaseException) -> str:
    """One line that says what to do; empty for what is no matter of the system."""
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


class _Guard(MetaPathFinder):
    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Find nothing; raise a MemoryError where torch would not get in."""
        if name != "torch":
            return
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
