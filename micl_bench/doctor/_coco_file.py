"""What an annotations file of COCO's format says, in numbers that fit into memory."""

import dataclasses
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.doctor._json_stream import entries

# Polygons are compared with boxes in one annotation of so many.
_EVERY = 16


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
    unmasked: int = 0
    """Annotations without a mask."""
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

    def images_with_objects(self) -> int:
        """Images that an annotation names."""
        return len(set(self.image_ids) & self.images.keys())


def read_coco(file: Path) -> CocoFile:
    """Read a file of any size.

    Raises:
        ValueError: it is not of COCO's format; the message says what is not.
    """
    found = CocoFile()
    for key, value in entries(file):
        try:
            if key == "images":
                found.images[_number(value["id"])] = str(value["file_name"])
                found.sizes[_number(value["id"])] = int(value["width"]), int(value["height"])
            elif key == "categories":
                found.categories.append((_number(value["id"]), str(value["name"])))
            elif key == "annotations":
                _add(found, value)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ValueError(f"an entry of {key} is not in order: {error!r}") from error
    if not found.images:
        raise ValueError("no images in it")
    return found


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _add(found: CocoFile, value: Any) -> None:
    if not found.keys:
        found.keys = set(value)
    if not {"bbox", "category_id"} <= found.keys:
        found.image_ids.append(_number(value["image_id"]))
        return
    x, y, width, height = value["bbox"]
    found.boxes.extend((float(x), float(y), float(width), float(height)))
    found.image_ids.append(_number(value["image_id"]))
    found.category_ids.append(_number(value["category_id"]))
    found.ids.append(_number(value["id"]))
    index, mask = len(found.ids) - 1, value.get("segmentation")
    if isinstance(mask, dict):
        found.runs.append((index, int(mask["size"][1]), int(mask["size"][0])))
    elif not mask:
        found.unmasked += 1
    elif index % _EVERY == 0:
        right, bottom = (max(max(outline[axis::2]) for outline in mask) for axis in (0, 1))
        found.polygons.append((index, float(right), float(bottom)))
