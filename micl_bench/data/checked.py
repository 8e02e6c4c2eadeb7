"""Checks of images before anything expensive, and that evaluated ones stay as they were.

A run must not learn at its end that an image cannot be read, nor measure other images than its record
names. Stores were decoded when they were packed; `data verify` reads them again.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from micl_bench.data.folder import Folder, may_be_unreadable, read_image
from micl_bench.data.headers import Header, in_threads, read_headers, spread
from micl_bench.data.image_files import shown_name
from micl_bench.data.packed.store import PIXELS_FILE
from micl_bench.data.source import Source
from micl_bench.runtime.distributed import collect_objects, from_first, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress

MOST_HEADERS = 50_000
"""At most so many images, evenly spaced, are opened: a million of them would take minutes."""

_SHOWN = 3
# Fewer are read before anybody looks for a sign of life.
_WORTH_A_LINE = 1000

Problem = tuple[Path, str]
"""A file, and a sentence that says why it cannot be read."""


def decode_all(*sources: Source, label: str = "reading held-out images") -> None:
    """Decode every image once, as evaluation does; every process must call it.

    Raises:
        InputError: images cannot be read; the message has the first one with its reason.
    """
    folders = [one for one in sources if isinstance(one, Folder)]
    images = [(folder, index) for folder in folders for index in range(len(folder))]
    own = images[rank() :: world_size()]

    def problem_of(image: tuple[Folder, int]) -> list[Problem]:
        folder, index = image
        return _problems(folder.paths[index], lambda: folder.image(index))

    with _progress(label, len(own)) as progress:
        found = in_threads(problem_of, own, on_read=progress.step)
    _refuse([problem for problems in found for problem in problems], len(images))


def look_at(*sources: Source, most: int = MOST_HEADERS) -> None:
    """Open images without decoding them; every process must call it.

    It finds files that are no images, are cut off, or are of a kind that is not read.

    Args:
        most: files to open; where there are more, evenly spaced ones.

    Raises:
        InputError: as `decode_all`.
    """
    paths = [path for one in sources if isinstance(one, Folder) for path in one.files]
    _, problems = unreadable(spread(paths, most)[rank() :: world_size()])
    _refuse(problems, len(paths))


def unreadable(paths: Sequence[Path]) -> tuple[list[Header], list[Problem]]:
    """Return the headers of files, and a problem per file that is no whole image."""
    with _progress("looking at images", len(paths)) as progress:
        headers = read_headers(paths, on_read=progress.step)
    problems: list[Problem] = []
    for path, header in zip(paths, headers, strict=True):
        if may_be_unreadable(header):
            problems += _problems(path, functools.partial(read_image, path))
    return headers, problems


def _progress(label: str, number: int) -> Progress:
    return Progress(label, total=number, quiet=rank() > 0 or number < _WORTH_A_LINE)


def _problems(path: Path, read: Callable[[], object]) -> list[Problem]:
    try:
        read()
    except InputError as error:
        return [(path, str(error))]
    return []


def _refuse(problems: list[Problem], number: int) -> None:
    """Raise an InputError on every process if any of them found a problem."""
    parts = collect_objects(problems)
    if every := from_first(sorted(problem for part in parts for problem in part)):
        (_, first), *others = every
        names = ", ".join(shown_name(path.name) for path, _ in others[:_SHOWN])
        more = ", ..." if len(others) > _SHOWN else ""
        also = f" (and {len(others):,} more of {number:,} images: {names}{more})" if others else ""
        raise InputError(first + also)


class Watch:
    """A watch over images: it finds those that were replaced since it was made."""

    def __init__(self, *sources: Source) -> None:
        self._paths = [
            path
            for one in sources
            for path in (one.files if isinstance(one, Folder) else (one.root / PIXELS_FILE,))
        ]
        self._before = self._now()

    def require_unchanged(self) -> None:
        """Raise an InputError, on every process, if images changed meanwhile."""
        problem = ""
        if rank() == 0 and (now := self._now()) != self._before:
            changed = sorted(path for path in now if now[path] != self._before[path])
            more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
            problem = (
                f"{changed[0]}{more} changed while it was read; nothing was recorded, the same "
                "command measures again"
            )
        if problem := from_first(problem):
            raise InputError(problem)

    def _now(self) -> dict[Path, tuple[int, ...]]:
        """Return size, time of writing and number of each file; nothing for a file that went."""
        found: dict[Path, tuple[int, ...]] = {}
        for path in self._paths if rank() == 0 else ():
            try:
                status = path.stat()
                found[path] = status.st_size, status.st_mtime_ns, status.st_ino
            except OSError:
                found[path] = ()
        return found
