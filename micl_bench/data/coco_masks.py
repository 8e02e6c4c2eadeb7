"""Masks of COCO annotations: whether their numbers are what pycocotools takes them for.

It checks little itself: four numbers are a box to it, run lengths that do not add up give any mask.
"""

import math
from typing import Any

_FEWEST = 6
_NUMBERS_OF_A_BOX = 4
_LARGEST = 1 << 24


def mask_fault(mask: Any) -> str:
    """What is wrong with a `segmentation`, in a few words that go on a sentence; empty if nothing."""
    if isinstance(mask, list):
        left_out = strays(mask)
        rest = (polygon for place, polygon in enumerate(mask) if place not in left_out)
        return next(filter(None, map(_polygon_fault, rest)), "")
    if isinstance(mask, dict):
        return _runs_fault(mask)
    return f"is {_kind(mask)}, neither a list of polygons nor run lengths"


def strays(mask: list[Any]) -> list[int]:
    """Places of polygons with too few numbers to enclose anything; only where others do.

    mmdetection leaves them out of training, and to pycocotools they are of no pixel, but for one that
    `leads_astray`.
    """
    found = [
        place
        for place, polygon in enumerate(mask)
        if isinstance(polygon, list) and len(polygon) < _FEWEST and all(map(_is_place, polygon))
    ]
    return found if len(found) < len(mask) else []


def leads_astray(mask: list[Any]) -> bool:
    """Whether pycocotools fails at the first of some polygons, by which it tells them from boxes."""
    return isinstance(mask[0], list) and len(mask[0]) <= _NUMBERS_OF_A_BOX


def _polygon_fault(polygon: Any) -> str:
    if not isinstance(polygon, list):
        return f"has {_kind(polygon)} among its polygons"
    if len(polygon) < _FEWEST or len(polygon) % 2:
        return (
            f"has a polygon of {len(polygon)} numbers; it takes an even number of them, {_FEWEST} or "
            "more: x and y of each corner"
        )
    return "" if all(map(_is_place, polygon)) else "has a polygon with what is no pixel's place"


def _is_place(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < _LARGEST


def _runs_fault(mask: dict[str, Any]) -> str:
    size, counts = mask.get("size"), mask.get("counts")
    whole = isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)
    if not whole or not all(0 < n < _LARGEST for n in size or ()):
        return "has run lengths without 'size', which is height and width"
    if isinstance(counts, str):
        counts = _uncompressed(counts)
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        return "has run lengths whose 'counts' are neither whole numbers nor a text of COCO's"
    if sum(counts) != math.prod(size or ()):
        return f"has run lengths of {sum(counts):,} pixels in all for a mask of {size}"
    return ""


def _uncompressed(text: str) -> list[int] | None:
    """The numbers of a compressed text; None where it is none.

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


def _kind(value: Any) -> str:
    names = {str: "a text", bool: "a yes or no", int: "a number", float: "a number"}
    return names.get(type(value), "something else")
