"""Folders that are written whole or not at all, and walks through folders that come to an end."""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import TEMPORARY, beginning
from micl_bench.runtime.locks import turn
from micl_bench.runtime.log import say

_KINDS = (".new", ".old")


def atomic_folder(
    path: Path, fill: Callable[[Path], None], *, unless: Callable[[], bool] = lambda: False
) -> None:
    """Let `fill` write a folder under a temporary name, then give it its own, replacing an old one.

    One process at a time; the second says so and waits. A kill leaves the old folder, or the new one;
    the next call puts back what was set aside and removes the rest.

    Args:
        unless: asked when it is this process's turn; where it is true there is nothing left to do.

    Raises:
        InputError: `path` is where a disk is mounted.
    """
    # A link is followed: the folder that it names is replaced, not the link.
    path = path.resolve()
    if os.path.ismount(path):
        raise InputError(f"{path} is where a disk is mounted; name a folder in it")
    begin = f".{beginning(path)}"

    with turn(path.with_name(f"{begin}.lock"), f"writing {path}", on_wait=say):
        _tidy(path, begin)
        if unless():
            return
        new, old = (
            path.with_name(f"{begin}.{secrets.token_hex(4)}{kind}{TEMPORARY}") for kind in _KINDS
        )
        try:
            new.mkdir()
            fill(new)
            if path.exists():
                path.rename(old)
            new.rename(path)
        finally:
            if not path.exists() and old.exists():
                old.rename(path)
            for folder in (new, old):
                shutil.rmtree(folder, ignore_errors=True)


def _tidy(path: Path, begin: str) -> None:
    """Put back what a killed process set aside, and remove what it was writing."""
    pattern = re.compile(
        re.escape(begin) + r"\.[0-9a-f]{8}" + rf"(\.new|\.old){re.escape(TEMPORARY)}"
    )
    for found in path.parent.iterdir():
        if match := pattern.fullmatch(found.name):
            if match[1] == ".old" and not path.exists():
                found.rename(path)
            else:
                shutil.rmtree(found, ignore_errors=True)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, each folder once, without names with a leading dot.

    Folders that cannot be listed are passed over, and so are links to a folder above: they lead round
    for ever, and through the whole disk on their way.
    """
    seen = {place_of(above) for above in folder.resolve().parents}
    for place, inner, names in os.walk(folder, followlinks=True):
        own = place_of(Path(place))
        if own is None or own in seen:
            inner.clear()
            continue
        seen.add(own)
        inner[:] = sorted(name for name in inner if name[0] != ".")
        yield from (Path(place, name) for name in names if name[0] != ".")


def place_of(folder: Path) -> tuple[int, int] | None:
    """Return device and number of a folder, by whatever name it is reached; None where it is gone."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
