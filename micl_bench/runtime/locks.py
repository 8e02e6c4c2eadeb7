"""One process at a time, by filelock's lock files: the system frees them when their holder ends.

Whoever holds a lock removes its file at the end, so that nothing is left in the folders of results.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from micl_bench.runtime.errors import InputError

_POLL_SECONDS = 0.2
_LEFT_SECONDS = 86_400


class Lock:
    """A lock file that this process holds or not; folders that have to be made for it go with it."""

    def __init__(self, path: Path) -> None:
        # Not at the top: `micl-bench --help` needs no locks.
        from filelock import FileLock

        self._path, self._lock = path, FileLock(path)
        self._made: list[Path] = []

    def take(self) -> bool:
        """Try to hold the lock, and return True where this process holds it now."""
        from filelock import Timeout

        self._made += [folder for folder in self._path.parents if not folder.exists()]
        while True:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
            except FileNotFoundError:
                # The one before took the folder with it.
                continue
            if self._path.exists():
                return True
            # The one before removed the file between our opening and our locking.
            self._lock.release()

    def release(self) -> None:
        """Let others have their turn, if this process has it."""
        if self._lock.is_locked:
            self._path.unlink(missing_ok=True)
            self._lock.release()
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def sweep_locks(folder: Path) -> None:
    """Remove the lock files in a folder that no process holds, and the folder if nothing is left.

    A process that was killed at the end of its turn leaves an empty file, which keeps nobody waiting.
    Files of the last day stay: where hosts do not see each other's locks, another one may hold them.
    """
    for path in folder.glob("*.lock"):
        # Another user's file, or one that another process removed.
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < _LEFT_SECONDS:
                continue
            lock = Lock(path)
            lock.take()
            lock.release()
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextmanager
def turn(
    path: Path, activity: str, *, on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold a lock file.

    Args:
        activity: words on what only the holder may do, such as `writing work/report`.
        on_wait: called with a sentence before waiting; without it, there is no waiting.

    Raises:
        InputError: another process holds it, and there is no waiting.
    """
    lock = Lock(path)
    try:
        if not lock.take():
            busy = f"another process is {activity}"
            if not on_wait:
                raise InputError(f"{busy}; wait for it, or stop it")
            on_wait(f"{busy}; waiting for it")
            while not lock.take():
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        lock.release()


@contextmanager
def alone(
    folder: Path, activity: str, *, on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Keep other processes from the same activity in a folder meanwhile, as `turn` does."""
    with turn(folder / ".lock", f"{activity} {folder}", on_wait=on_wait):
        yield
