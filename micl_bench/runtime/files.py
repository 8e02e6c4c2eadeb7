"""Files that are never half written, and digests of their contents."""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micl_bench.runtime.errors import InputError

TEMPORARY = ".micl-bench.tmp"
_OURS = re.compile(r"\..*\.[0-9a-f]{8}" + re.escape(TEMPORARY), re.DOTALL)
_LONGEST_BEGINNING = 100
# Of torch's and safetensors' writers, where the system refused a write.
_WRITERS_WORDS = (
    "inline_container.cc",
    "PytorchStreamWriter",
    "Error while serializing: I/O error",
)
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_BLOCK_BYTES = 1 << 20


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path`, under a name of this process's own; it is removed at the end.

    What a killed process left in the folder goes too: whoever writes holds a lock on its file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    while True:
        temporary = path.with_name(f".{beginning(path)}.{secrets.token_hex(4)}{TEMPORARY}")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        mark_as_written(handle)
        if temporary.exists():
            break
        # Another process's sweep came between the two.
        os.close(handle)
    try:
        yield temporary
    except Exception as error:
        if (reason := _unwritten(path, error)) is error:
            raise
        raise reason from error
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _unwritten(path: Path, error: Exception) -> Exception:
    """Return the error to raise where a file could not be written; libraries' writers have their own."""
    words = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, OSError) and error.errno and not error.filename:
        if error.errno not in _FULL:
            return OSError(error.errno, error.strerror, str(path))
        words = error.strerror or words
    elif not any(word in str(error) for word in _WRITERS_WORDS):
        return error
    return OSError(f"{path} cannot be written ({words}); is the disk full?")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; it takes the real name only if nothing was raised.

    Of several processes that write one file, the last one's whole content stays.
    """
    with temporary_file(path) as temporary:
        yield temporary
        to_disk(temporary)
        temporary.replace(path)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def path_once(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, whose content is never changed once it has that name.

    Safe beside other writers: whoever comes first wins, the same content twice is no harm.

    Raises:
        InputError: the file is there with another content.
    """
    with temporary_file(path) as temporary:
        yield temporary
        to_disk(temporary)
        try:
            # Unlike a rename, a link never takes the place of what is there.
            path.hardlink_to(temporary)
        except FileExistsError:
            if not path.is_file() or digest_file(path) != digest_file(temporary):
                raise InputError(
                    f"{path} exists with another content and is left as it is; give another name"
                ) from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            # A file system without links.
            temporary.replace(path)


def write_once(path: Path, content: bytes) -> None:
    """Write a file that is never changed afterwards, as `path_once` has it."""
    with path_once(path) as temporary:
        temporary.write_bytes(content)


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def mark_as_written(handle: int) -> bool:
    """Lock an open temporary file for this process; False where another one writes it, or where the
    file system has no locks."""
    # Not filelock's, whose own second file for each one that is written would have to be swept too.
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def beginning(path: Path) -> str:
    """Return the beginning of a file's name, short enough for what is added to stay below 255 bytes."""
    return path.name.encode(errors="ignore")[:_LONGEST_BEGINNING].decode(errors="ignore")


@functools.cache
def sweep(folder: Path) -> None:
    """Remove the temporary files in a folder that no living process holds, once a process."""
    for path in folder.iterdir():
        if not _OURS.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        # Another process may be removing them too.
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if mark_as_written(handle):
                    path.unlink()
            finally:
                os.close(handle)


def cache_folder() -> Path:
    """Return the folder of downloads and features: MICL_BENCH_CACHE, or ~/.cache/micl-bench.

    Raises:
        InputError: there is no home folder to keep it in.
    """
    chosen = os.environ.get("MICL_BENCH_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "micl-bench"
    except RuntimeError as error:
        raise InputError(
            "this user has no home folder for the cache of features and downloads; set "
            "MICL_BENCH_CACHE to a folder"
        ) from error


def writable_cache(name: str) -> Path:
    """Return a folder of the cache that this process can write to; it is made if need be.

    Raises:
        InputError: it cannot be written.
    """
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_file(folder / "probe"):
            return folder
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be written ({error.strerror}); set MICL_BENCH_CACHE to "
            "a folder that can"
        ) from error


def digest_json(value: Any) -> str:
    """Return the SHA-256 of a value as canonical JSON, in hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


# Made once: `json.dumps` would make an encoder for each call.
canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
"""JSON of a value without spaces, names in order: equal values are equal texts."""


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def digest_files(root: Path, paths: Iterable[Path]) -> str:
    """Return the SHA-256 over relative names and contents, in sorted order: equal data, equal digest."""
    return _digest_of_each(root, paths, digest_file)


def digest_listing(root: Path, paths: Iterable[Path]) -> str:
    """Return the SHA-256 over relative names and sizes, in sorted order.

    Tells data sets apart without reading ImageNet's 140 GB; it does not see a flipped byte.
    """
    return _digest_of_each(root, paths, lambda path: path.stat().st_size)


def _digest_of_each(root: Path, paths: Iterable[Path], read: Callable[[Path], object]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        # Names that are no UTF-8 by their bytes.
        line = f"{path.relative_to(root).as_posix()}\0{read(path)}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
