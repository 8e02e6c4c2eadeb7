"""Files that are never half written, and digests of what is in them."""

import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micl_bench.errors import InputError

_BLOCK_BYTES = 1 << 20


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it takes the real name only if nothing was raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Of several processes that write one file, the last one's whole content stays.
    """
    with _written(path, content) as temporary:
        temporary.replace(path)


def write_once(path: Path, content: bytes) -> None:
    """Write a file that is never changed afterwards.

    Safe beside other writers: whoever comes first wins, the same content twice is no harm.

    Raises:
        InputError: the file is there with another content.
    """
    with _written(path, content) as temporary:
        try:
            # Unlike a rename, a link never takes the place of what is there.
            path.hardlink_to(temporary)
        except FileExistsError:
            if path.read_bytes() != content:
                raise InputError(
                    f"{path} exists with another content; it is left as it is"
                ) from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            # A file system without links.
            temporary.replace(path)


@contextmanager
def _written(path: Path, content: bytes) -> Iterator[Path]:
    """Content on the disk, under a name beside `path` that no other process writes to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache
def _umask() -> int:
    """What new files may not be; mkstemp's are for their owner alone."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def atomic_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a folder under a temporary name, then give it its own, replacing an old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        fill(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cache_folder() -> Path:
    """Where downloads and features are kept: MICL_BENCH_CACHE, or ~/.cache/micl-bench."""
    chosen = os.environ.get("MICL_BENCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "micl-bench"


@contextmanager
def alone(
    folder: Path, activity: str, *, on_wait: Callable[[], None] | None = None
) -> Iterator[int]:
    """Keep other processes from the same activity in a folder meanwhile.

    Gives the lock's file descriptor: a process that inherits it holds the lock too.

    Args:
        on_wait: called before waiting for another process; without it, there is no waiting.

    Raises:
        InputError: one is at it, and there is no waiting.
    """
    handle = _lockable(folder)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not on_wait:
                raise InputError(
                    f"another process is {activity} {folder}; wait for it, or stop it"
                ) from error
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            # Some network file systems know no locks; there the user has to take care.
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
        yield handle
    finally:
        os.close(handle)


def _lockable(folder: Path) -> int:
    """The folder itself, or a file in it: NFS locks only what is open for writing, no folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno == errno.EBADF:
            os.close(handle)
            return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    return handle


def digest_json(value: Any) -> str:
    """SHA-256 of a value as canonical JSON."""
    return digest_text(canonical_json(value))


def digest_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


# Made once: `json.dumps` would make an encoder for each call.
canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
"""JSON of a value without spaces, names in order: equal values are equal texts."""


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def digest_files(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over relative names and contents, in sorted order: equal data, equal digest."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        line = f"{path.relative_to(root).as_posix()}\0{digest_file(path)}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def digest_listing(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over relative names and sizes, in sorted order.

    Tells data sets apart without reading ImageNet's 140 GB; it does not see a flipped byte.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        # Names that are no UTF-8 by their bytes.
        line = f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
