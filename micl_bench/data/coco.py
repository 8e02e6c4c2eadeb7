"""Annotation files of COCO's format, checked entry by entry; masks are checked when they are used.

A message names the place of an entry that is missing or of another kind. pycocotools itself checks
little: four numbers are a mask's box to it, run lengths that do not add up give any mask.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from micl_bench.data.faults import Fault

_FEWEST = 6
"""Fewest numbers of a polygon that encloses something."""

_Whole = Annotated[int, Meta(ge=-(1 << 53), le=1 << 53)]
_Number = Annotated[float, Meta(ge=-float(1 << 53), le=float(1 << 53))]
_Length = Annotated[float, Meta(ge=0, le=float(1 << 53))]
_Side = Annotated[int, Meta(gt=0, lt=1 << 24)]
_Place = Annotated[float, Meta(gt=-float(1 << 24), lt=float(1 << 24))]
_Run = Annotated[int, Meta(ge=0, lt=1 << 48)]


class Image(msgspec.Struct, frozen=True, gc=False):
    """An entry of `images`."""

    id: _Whole
    file_name: str
    width: _Side
    height: _Side

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


class Category(msgspec.Struct, frozen=True, gc=False):
    """An entry of `categories`."""

    id: _Whole
    name: str


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """An entry of `annotations`."""

    id: _Whole
    image_id: _Whole
    category_id: _Whole
    bbox: tuple[_Number, _Number, _Length, _Length]
    area: _Number
    iscrowd: Literal[0, 1] | bool = 0
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    """The mask as JSON; `read_mask` reads it where masks are used."""


class _Content(msgspec.Struct):
    images: Annotated[list[Image], Meta(min_length=1)]
    annotations: list[Annotation]
    categories: list[Category]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoFile:
    """A file that pycocotools and mmdetection can read, but for masks: `check_annotations`."""

    images: dict[int, Image]
    """Entries by their id."""
    categories: dict[int, str]
    """Names by their id."""
    annotations: list[Annotation]

    def boxes_A4(self) -> NDArray[np.float64]:
        """Return x, y, width and height of each annotation, as the file has them."""
        return np.array([one.bbox for one in self.annotations], np.float64).reshape(-1, 4)

    def sizes_A2(self) -> NDArray[np.int64]:
        """Return width and height of each annotation's image; 0 where the file does not list it."""
        known = {number: image.size for number, image in self.images.items()}
        return np.array([known.get(one.image_id, (0, 0)) for one in self.annotations]).reshape(
            -1, 2
        )


def read_coco(file: Path) -> CocoFile | Fault:
    """Read a file, or return the fault for which it cannot be read."""
    try:
        content = msgspec.json.decode(file.read_bytes(), type=_Content)
        return CocoFile(
            images=_images(content),
            categories=_categories(content),
            annotations=content.annotations,
        )
    except (msgspec.MsgspecError, ValueError, RecursionError, OSError) as error:
        found = " ".join(str(getattr(error, "strerror", None) or error).split())
        return Fault(
            f"{file} is no COCO file of objects with boxes: {found}"[:400],
            "write it again in COCO's format, as its instances_*.json",
        )


def _images(content: _Content) -> dict[int, Image]:
    for place, one in enumerate(content.images):
        _require_name(f"images[{place}].file_name", one.file_name)
        path = Path(one.file_name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"images[{place}].file_name is {one.file_name!a:.60}, not below the folder of "
                "images"
            )
    _refuse_doubled("images[{}].id", [one.id for one in content.images])
    return {one.id: one for one in content.images}


def _categories(content: _Content) -> dict[int, str]:
    for place, one in enumerate(content.categories):
        _require_name(f"categories[{place}].name", one.name)
    for key in ("id", "name"):
        values = [getattr(one, key) for one in content.categories]
        _refuse_doubled(f"categories[{{}}].{key}", values)
    return {one.id: one.name for one in content.categories}


def _require_name(place: str, name: str) -> None:
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{place} is {name!a:.60}, no name of printable characters")


def _refuse_doubled(place: str, values: Sequence[Any]) -> None:
    seen = set()
    for number, value in enumerate(values):
        if value in seen:
            raise ValueError(f"{place.format(number)} is {value!r}, which another entry has too")
        seen.add(value)


class Runs(msgspec.Struct):
    """A mask as lengths of the runs of 0 and 1 in turn, or as COCO's compressed text of them."""

    size: tuple[_Side, _Side]
    """Height and width."""
    counts: list[_Run] | str


Mask = list[list[_Place]] | Runs
"""Polygons, each as x and y of its corners in turn, or run lengths."""

_read_mask = msgspec.json.Decoder(Mask)


def read_mask(segmentation: msgspec.Raw) -> Mask | str | None:
    """Read a `segmentation`: None where there is none, and a few words where it is no mask."""
    if bytes(segmentation) in (b"null", b"[]", b"{}"):
        return None
    try:
        return _read_mask.decode(segmentation)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        return f"is neither a list of polygons nor run lengths: {error}"


def mask_fault(mask: Mask | str) -> str:
    """Return the fault of a mask, in a few words that go on a sentence; empty for none."""
    if isinstance(mask, str):
        return mask
    if isinstance(mask, Runs):
        return _runs_fault(mask)
    left_out = strays(mask)
    for place, polygon in enumerate(mask):
        if place not in left_out and (len(polygon) < _FEWEST or len(polygon) % 2):
            return (
                f"has a polygon of {len(polygon)} numbers; it takes an even number of them, {_FEWEST} "
                "or more: x and y of each corner"
            )
    return ""


def strays(polygons: list[list[float]]) -> list[int]:
    """Return the places of polygons with too few numbers to enclose anything, where others do.

    mmdetection leaves them out of training. pycocotools gives them no pixel, but fails at a first one of
    at most four numbers.
    """
    found = [place for place, polygon in enumerate(polygons) if len(polygon) < _FEWEST]
    return found if len(found) < len(polygons) else []


def _runs_fault(mask: Runs) -> str:
    counts = _uncompressed(mask.counts) if isinstance(mask.counts, str) else mask.counts
    if counts is None or min(counts, default=0) < 0:
        return "has run lengths whose 'counts' are neither whole numbers nor a text of COCO's"
    if sum(counts) != math.prod(mask.size):
        return f"has run lengths of {sum(counts):,} pixels in all for a mask of {list(mask.size)}"
    return ""


def _uncompressed(text: str) -> list[int] | None:
    """Return the numbers of a compressed text, or None where it is none.

    Each is in groups of five bits, lowest first, plus 48, with 32 where more follow, its sign in the
    highest bit; from the fourth on it is the difference from the number two before.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text.encode("utf-8", "replace"):
        group = character - 48
        if not 0 <= group < 64 or shift > 60:
            return None
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return None if shift else counts
