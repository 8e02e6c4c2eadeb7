"""Headers of image files: size, mode and orientation, without decoding unless asked."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from micl_bench.data.faults import reason

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_TAIL = 4096
_END = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_ORIENTATION = 0x0112
_UPRIGHT = 1
_ON_ITS_SIDE = (5, 6, 7, 8)


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of an image file; where there is an `error`, the rest is empty."""

    width: int = 0
    height: int = 0
    mode: str = ""
    error: str = ""
    orientation: int = _UPRIGHT
    """EXIF's number, 1 to 8, by which viewers, and readers that heed it, turn and mirror the pixels."""
    kind: str = ""
    """Pillow's name of the content's format, whatever the file's suffix: `JPEG`, ..."""

    @property
    def size(self) -> str:
        """Return `683 x 512` as stored, width first."""
        return f"{self.width} x {self.height}"

    @property
    def shown(self) -> tuple[int, int]:
        """Return width and height once turned."""
        turned = self.orientation in _ON_ITS_SIDE
        return (self.height, self.width) if turned else (self.width, self.height)


def read_headers(
    files: Iterable[Path], *, decode: bool = False, on_read: Callable[[], None] | None = None
) -> list[Header]:
    """Return the headers of files, in their order.

    Args:
        decode: every pixel too, so that `error` reports damage anywhere in a file.
        on_read: called after each file.
    """
    return in_threads(lambda file: read_header(file, decode=decode), files, on_read=on_read)


def in_threads(
    read: Callable[[_Item], _Read],
    items: Iterable[_Item],
    *,
    on_read: Callable[[], None] | None = None,
) -> list[_Read]:
    """Return `read` of each item, in order; several run at once, as disks and networks are slow."""
    found = []
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as threads:
        for one in threads.map(read, items):
            found.append(one)
            if on_read:
                on_read()
    return found


def spread(items: Sequence[_Item], number: int) -> list[_Item]:
    """Return `number` of the items, evenly spaced, or all where there are fewer."""
    if len(items) <= number:
        return list(items)
    return [items[index * len(items) // number] for index in range(number)]


def read_header(file: Path, *, decode: bool = False) -> Header:
    """Return the header of one file, as `read_headers` does."""
    # A pipe would be waited for without end.
    if not file.is_file():
        return Header(error="no such file")
    try:
        with Image.open(file) as image:
            # Pillow decodes a PNG to its end to find EXIF that it has not met yet.
            known = image.format != "PNG" or "exif" in image.info
            stated = image.getexif().get(_ORIENTATION) if known else _UPRIGHT
            header = Header(
                image.width,
                image.height,
                image.mode,
                orientation=stated if stated in range(1, 9) else _UPRIGHT,
                kind=image.format or "",
            )
            if decode or _lacks_end(file, image.format or ""):
                # Bytes may follow the end; only decoding shows damage.
                image.load()
            return header
    # Decoders raise anything for a broken file: OSError, SyntaxError, ValueError, bombs.
    except Exception as error:
        return Header(error=reason(error))


def _lacks_end(file: Path, kind: str) -> bool:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        return kind not in _END or _END[kind] not in opened.read()
