"""One process at a time: locks that end with the process that holds them, however it ends.

`flock`, not a lock library: it is part of the system, a kill frees it, and a child may inherit it. Some
network file systems know no locks; there the user has to take care.
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.patience import Patience

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_POLL_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 6 * 3600.0
_LONGEST_NAME = 300


def try_lock(handle: int) -> bool | None:
    """Whether an open file is locked now; None where another process holds it.

    False where the file system knows no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


@contextmanager
def alone(
    folder: Path, activity: str, *, on_wait: Callable[[], None] | None = None
) -> Iterator[int]:
    """Keep other processes from the same activity in a folder meanwhile; leaves no file behind.

    Gives the lock's file descriptor: a process that inherits it holds the lock too.

    Args:
        on_wait: called before waiting for another process; without it, there is no waiting.

    Raises:
        InputError: one is at it, and there is no waiting, or it took hours.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            locked = try_lock(handle)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # NFS locks only what is open for writing, which no folder can be.
            os.close(handle)
            handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            locked = try_lock(handle)
        if locked is None:
            if not on_wait:
                raise InputError(f"another process is {activity} {folder}; wait for it, or stop it")
            on_wait()
            _wait(lambda: try_lock(handle) is not None, f"another process is {activity} {folder}")
        yield handle
    finally:
        os.close(handle)


@contextmanager
def turn(
    path: Path, activity: str, *, on_wait: Callable[[str], None] | None = None
) -> Iterator[bool]:
    """Hold a lock file, which goes at the end; folders that had to be made for it go if they are empty.

    Yields whether the file system knows locks.

    Args:
        activity: what is kept from others, such as `writing work/report`.
        on_wait: called with a sentence before waiting; without it, there is no waiting.

    Raises:
        InputError: another process is at it, and there is no waiting, or it took hours.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    held: Held | None = None

    def take_it() -> bool:
        nonlocal held
        held = take(path)
        return held is not None

    try:
        if not take_it():
            busy = f"another process ({_holder(path)}) is {activity}"
            if not on_wait:
                raise InputError(f"{busy}; wait for it, or stop it")
            on_wait(f"{busy}; waiting for it")
            _wait(take_it, busy)
        assert held
        yield held.locked
    finally:
        if held:
            held.release()
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@dataclasses.dataclass(frozen=True)
class Held:
    """A lock file that this process holds."""

    path: Path
    handle: int
    locked: bool
    """False where the file system knows no locks: others may be at it too."""

    def release(self) -> None:
        """Let others have their turn; the file goes."""
        self.path.unlink(missing_ok=True)
        os.close(self.handle)


def take(path: Path) -> Held | None:
    """Try to hold a lock file, which is made with its folder; None where another process holds it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            locked = try_lock(handle)
            # Else the one before removed the file that it held between our opening and our locking.
            if locked is not None and is_open_as(path, handle):
                os.truncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return Held(path, handle, locked)
        except OSError:
            os.close(handle)
            raise
        os.close(handle)
        if locked is None:
            return None


def is_open_as(path: Path, handle: int) -> bool:
    """Whether a name still is that of an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:_LONGEST_NAME]
    except OSError:
        text = ""
    return text if text.isprintable() and text else "not named"


def _wait(done: Callable[[], bool], busy: str) -> None:
    patience = Patience(_LONGEST_WAIT_SECONDS, every=_POLL_SECONDS)
    while not done():
        if patience.ends():
            hours = _LONGEST_WAIT_SECONDS / 3600
            raise InputError(f"{busy} and has not ended in {hours:g} hours; stop it, or look why")
        time.sleep(_POLL_SECONDS)
