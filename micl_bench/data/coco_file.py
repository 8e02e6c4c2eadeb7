"""What an annotations file of COCO's format says, in numbers that fit into memory.

Whatever a file lacks, or has of another kind than COCO's format, is named with its entry and key: what
`read_coco` gives back can be given to pycocotools and mmdetection. Left to the one who asks is what not
every use needs: masks (`mask_faults`).
"""

import dataclasses
import math
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.data.coco_masks import leads_astray, mask_fault, strays
from micl_bench.data.json_stream import entries

# Polygons are compared with boxes in one annotation of so many.
_EVERY = 16
_LISTS = ("images", "annotations", "categories")
_LARGEST = 1 << 53
_SHOWN = 60


@dataclasses.dataclass
class CocoFile:
    """Images by id; annotations as columns, in the file's order."""

    images: dict[int, str] = dataclasses.field(default_factory=dict)
    """File names."""
    sizes: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Width and height in pixels."""
    categories: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    keys: set[str] = dataclasses.field(default_factory=set)
    """Of the first annotation."""
    ids: "array[int]" = dataclasses.field(default_factory=lambda: array("q"))
    image_ids: "array[int]" = dataclasses.field(default_factory=lambda: array("q"))
    category_ids: "array[int]" = dataclasses.field(default_factory=lambda: array("q"))
    boxes: "array[float]" = dataclasses.field(default_factory=lambda: array("d"))
    """Four numbers per annotation: x, y, width, height."""
    areas: "array[float]" = dataclasses.field(default_factory=lambda: array("d"))
    """Pixels, as the file has them."""
    crowds: "array[int]" = dataclasses.field(default_factory=lambda: array("b"))
    """1 for an annotation of a crowd, which `iscrowd` says; untold it is 0, as in COCO's own tools."""
    unmasked: int = 0
    """Annotations without a mask."""
    mask_faults: list[str] = dataclasses.field(default_factory=list)
    """What is wrong with masks, one line per annotation."""
    strays: list[tuple[int, bool]] = dataclasses.field(default_factory=list)
    """Annotations with polygons that enclose nothing beside others: their number, and whether
    pycocotools fails at them."""
    polygons: list[tuple[int, float, float]] = dataclasses.field(default_factory=list)
    """Of some annotations: their number, and the largest x and y of their outline."""
    runs: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    """Of run-length masks: the number of their annotation, width and height."""

    def has_instances(self) -> bool:
        """Whether annotations have boxes and categories."""
        return bool(self.categories) and {"bbox", "category_id"} <= self.keys

    def boxes_A4(self) -> NDArray[np.float64]:
        """Of A annotations, as the file has them."""
        return np.asarray(self.boxes).reshape(-1, 4)


def read_coco(file: Path) -> CocoFile:
    """Read a file of any size.

    Raises:
        ValueError: it is not of COCO's format; the message says which entry and key is not.
        OSError: it cannot be read.
    """
    found = CocoFile()
    add = {"images": _add_image, "annotations": _add_annotation, "categories": _add_category}
    for key, number, value in entries(file):
        if key not in add:
            continue
        if number is None:
            raise ValueError(f"{key} is {_short(value)}, no list")
        place = f"{key}[{number}]"
        if not isinstance(value, dict):
            raise ValueError(f"{place} is {_short(value)}, no object with keys")
        add[key](found, value, place)
    _refuse_doubled(found)
    if not found.images:
        raise ValueError("no images in it: the list 'images' is missing or empty")
    return found


def _add_image(found: CocoFile, value: dict[str, Any], place: str) -> None:
    number = _whole(value, "id", place)
    name = _text(value, "file_name", place)
    if number in found.images:
        raise ValueError(f"{place}.id is {number}, which another image has too")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{place}.file_name is {_short(name)}, not below the folder of images")
    found.images[number] = name
    width, height = (_whole(value, key, place) for key in ("width", "height"))
    if not 0 < width < 1 << 24 or not 0 < height < 1 << 24:
        raise ValueError(f"{place} is {width} x {height} pixels large")
    found.sizes[number] = width, height


def _add_category(found: CocoFile, value: dict[str, Any], place: str) -> None:
    found.categories.append((_whole(value, "id", place), _text(value, "name", place)))


def _refuse_doubled(found: CocoFile) -> None:
    """Categories are told apart by their ids and by their names."""
    for column, key in enumerate(("id", "name")):
        seen: set[int | str] = set()
        for place, category in enumerate(found.categories):
            if (own := category[column]) in seen:
                raise ValueError(
                    f"categories[{place}].{key} is {own!r}, which another category has too"
                )
            seen.add(own)


def _add_annotation(found: CocoFile, value: dict[str, Any], place: str) -> None:
    if not found.keys:
        found.keys = set(value)
    image = _whole(value, "image_id", place)
    if not {"bbox", "category_id"} <= found.keys:
        found.image_ids.append(image)
        return
    box = _value(value, "bbox", place)
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError(f"{place}.bbox is {_short(box)}; 4 numbers: x, y, width, height")
    if min(box[2:]) < 0:
        raise ValueError(f"{place}.bbox is {_short(box)}, of negative size")
    if not _is_number(area := _value(value, "area", place)):
        raise ValueError(f"{place}.area is {_short(area)}, no number of pixels")
    if (crowd := value.get("iscrowd", 0)) not in (0, 1):
        raise ValueError(f"{place}.iscrowd is {_short(crowd)}; 0 or 1")
    found.ids.append(_whole(value, "id", place))
    found.category_ids.append(_whole(value, "category_id", place))
    found.image_ids.append(image)
    found.boxes.extend(map(float, box))
    found.areas.append(float(area))
    found.crowds.append(int(crowd))
    _add_mask(found, value.get("segmentation"), place)


def _add_mask(found: CocoFile, mask: Any, place: str) -> None:
    index = len(found.ids) - 1
    if mask in (None, [], {}):
        found.unmasked += 1
    elif fault := mask_fault(mask):
        found.mask_faults.append(f"{place}.segmentation (annotation {found.ids[index]}) {fault}")
    elif isinstance(mask, dict):
        found.runs.append((index, mask["size"][1], mask["size"][0]))
    else:
        if left_out := strays(mask):
            found.strays.append((index, leads_astray(mask)))
        if index % _EVERY == 0:
            whole = [one for place, one in enumerate(mask) if place not in left_out]
            right, bottom = (max(max(outline[axis::2]) for outline in whole) for axis in (0, 1))
            found.polygons.append((index, float(right), float(bottom)))


def _value(entry: dict[str, Any], key: str, place: str) -> Any:
    if key not in entry:
        raise ValueError(f"{place} has no key {key!r}")
    return entry[key]


def _whole(entry: dict[str, Any], key: str, place: str) -> int:
    value = _value(entry, key, place)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST:
        raise ValueError(f"{place}.{key} is {_short(value)}, no whole number")
    return value


def _text(entry: dict[str, Any], key: str, place: str) -> str:
    value = _value(entry, key, place)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{place}.{key} is {_short(value)}, no name of printable characters")
    return value


def _is_number(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return whole or (isinstance(value, float) and math.isfinite(value) and abs(value) <= _LARGEST)


def _short(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a number of many digits"
    if isinstance(value, list | dict) and len(value) > 8:
        return f"a {'list' if isinstance(value, list) else 'object'} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
