"""Image files by what can be told without decoding them: size, mode, whether the end is there."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from micl_bench.doctor._finding import reason

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_TAIL = 4096
_END = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}


@dataclasses.dataclass(frozen=True)
class Header:
    """One image file's; `error` tells why the rest is empty."""

    width: int = 0
    height: int = 0
    mode: str = ""
    error: str = ""

    @property
    def size(self) -> str:
        """`683 x 512`, width first."""
        return f"{self.width} x {self.height}"


def read_headers(files: Iterable[Path]) -> list[Header]:
    """Of all files, in their order; several at once, for disks and networks that let one wait."""
    return in_threads(_header, files)


def in_threads(read: Callable[[_Item], _Read], items: Iterable[_Item]) -> list[_Read]:
    """`read` of each item, in their order."""
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as threads:
        return list(threads.map(read, items))


def spread(items: Sequence[_Item], number: int) -> list[_Item]:
    """`number` of them (all, where there are fewer), evenly spaced."""
    if len(items) <= number:
        return list(items)
    return [items[index * len(items) // number] for index in range(number)]


def _header(file: Path) -> Header:
    try:
        with Image.open(file) as image:
            header = Header(image.width, image.height, image.mode)
            if _lacks_end(file, image.format or ""):
                # Bytes may follow the end; only the pixels tell.
                image.load()
            return header
    # What a broken file raises is the decoder's affair: OSError, SyntaxError, ValueError, bombs.
    except Exception as error:
        return Header(error=reason(error))


def _lacks_end(file: Path, kind: str) -> bool:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        return kind not in _END or _END[kind] not in opened.read()
