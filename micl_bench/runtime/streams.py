"""Standard output and error that cannot end a command: nobody may be listening, or a disk be full."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, TextIO

_NOBODY_LISTENS = (errno.EPIPE, errno.EIO)


class _Raw(io.FileIO):
    """A descriptor whose failures are noted, not raised: a progress line is not worth a training."""

    failure: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failure = error
            return len(content)


def secure_streams() -> None:
    """Replace this process's standard output and error; what is closed leads nowhere.

    A descriptor that is left closed would be the next opened file's, and get what is printed. Characters
    that the terminal cannot show are written as `\\u...`.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free: this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _secured(sys.stdout, 1)
    sys.stderr = _secured(sys.stderr, 2)


def _secured(stream: TextIO | None, descriptor: int) -> Any:
    if stream is not None:
        try:
            if stream.fileno() != descriptor or type(stream) is not io.TextIOWrapper:
                return stream
            stream.flush()
        except (OSError, ValueError):
            return stream
    return _text(descriptor, stream.encoding if stream else "utf-8")


def _text(descriptor: int, encoding: str) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Raw(descriptor, "w", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=descriptor != 1 or os.isatty(descriptor),
    )


def lost_output() -> str:
    """Say why standard output lost what was printed; empty where it did not, or nobody listens."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = getattr(raw, "failure", None)
    if failure is None or failure.errno in _NOBODY_LISTENS:
        return ""
    return str(failure.strerror)


@contextmanager
def output_into(file: IO[bytes]) -> Iterator[None]:
    """Inside, all that this process, its libraries in C and its children write goes into a file."""
    outside = sys.stdout, sys.stderr
    for stream in outside:
        stream.flush()
    kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    for descriptor in kept:
        os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = inside = _text(1, "utf-8"), _text(2, "utf-8")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = outside
        for stream in inside:
            stream.flush()
        for descriptor, before in kept.items():
            os.dup2(before, descriptor)
            os.close(before)


def standard_error() -> TextIO:
    """Standard error as it is now, wherever the process's own leads later."""
    try:
        if sys.stderr.fileno() == 2:
            return _text(os.dup(2), sys.stderr.encoding)
    except OSError:
        # A notebook's, or a test's.
        pass
    return sys.stderr
