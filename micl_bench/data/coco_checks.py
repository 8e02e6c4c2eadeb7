"""Checks that annotations of COCO's format have the meaning that training and evaluation expect.

`doctor` and `eval coco` share them, and compare the classes with a release or a config themselves.

Shapes: A annotations, P annotations whose outline is compared with the box.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.data.coco import CocoFile, Image, Runs, mask_fault, read_mask, strays
from micl_bench.data.dense_files import other_sizes, turned_fault
from micl_bench.data.faults import Fault, counted_of, first
from micl_bench.data.headers import read_headers
from micl_bench.runtime.wording import counted

# The release has some: two boxes of train2017 are no pixel high (cocodataset/cocoapi issue 355).
_TOLERATED = 1 / 1000
_PIXELS = 2.0
# Outlines are compared with boxes in one annotation of so many.
_EVERY = 16


def check_annotations(
    file: CocoFile, *, evaluated: bool = True, masks: bool = True
) -> Iterator[Fault]:
    """Check annotations against each other and against the listed images and categories.

    Args:
        evaluated: the file is measured on, not only trained on.
        masks: they are used.
    """
    if not file.annotations or not file.categories:
        lacks = "has no annotations" if not file.annotations else "lists no categories"
        yield Fault(f"it {lacks}", "give a file of objects with boxes, as COCO's instances_*.json")
        return
    if strange := [one for one in file.annotations if one.image_id not in file.images]:
        found = counted(len(strange), "annotation is", "annotations are")
        yield Fault(
            f"{found} of images that the file does not list: annotation {strange[0].id} is of image "
            f"{strange[0].image_id}",
            "add the images to the list 'images', or remove the annotations",
        )
    yield from _check_categories(file)
    yield from _check_ids([one.id for one in file.annotations], evaluated=evaluated)
    if _are_corners(file):
        yield Fault(
            "boxes are written as two corners (x1, y1, x2, y2); COCO's are one corner and the size (x, "
            "y, width, height)",
            "write x, y, width, height",
        )
        return
    yield from _check_boxes(file, evaluated=evaluated)
    if masks:
        yield from _check_masks(file, evaluated=evaluated)


def missing_classes(file: CocoFile, classes: Sequence[str]) -> list[str]:
    """Return the classes that no category has the name of."""
    names = set(file.categories.values())
    return [name for name in classes if name not in names]


def other_categories(file: CocoFile, classes: Sequence[str]) -> dict[str, int]:
    """Return the number of annotations of each category that is no class, where there are some."""
    used = Counter(file.categories.get(one.category_id, "") for one in file.annotations)
    return {name: number for name, number in used.items() if name and name not in set(classes)}


def _check_categories(file: CocoFile) -> Iterator[Fault]:
    used, known = Counter(one.category_id for one in file.annotations), file.categories
    if strange := sorted(used.keys() - known.keys()):
        number = sum(used[one] for one in strange)
        found = counted(number, "annotation has a category", "annotations have categories")
        yield Fault(
            f"{found} that the file does not list, as by a wrong label offset: category_id "
            f"{first(list(map(str, strange)))}; ids in use are {min(used)} to {max(used)}, listed are "
            f"{min(known)} to {max(known)}",
            "list these categories, or give the annotations the ids that are listed",
        )


def _check_ids(ids: list[int], *, evaluated: bool) -> Iterator[Fault]:
    if doubled := len(ids) - len(set(ids)):
        found = counted(doubled, "annotation has", "annotations have")
        found = f"{found} an id that another one has too: only the last of each id is read"
        yield Fault(found, "number annotations from 1, each by a number of its own")
    if evaluated and 0 in ids:
        found = "an annotation has id 0, which pycocotools counts as missed even when it is found"
        yield Fault(found, "number annotations from 1")


def _check_boxes(file: CocoFile, *, evaluated: bool) -> Iterator[Fault]:
    boxes_A4, sizes_A2 = file.boxes_A4(), file.sizes_A2()
    crowd_A = np.array([bool(one.iscrowd) for one in file.annotations])
    listed_A = (sizes_A2 > 0).all(axis=1)

    def example(wrong_A: Any) -> str:
        index = int(wrong_A.argmax())
        width, height = sizes_A2[index]
        box = boxes_A4[index].tolist()
        number = file.annotations[index].id
        return f"annotation {number} has the box {box} in an image of {width} x {height}"

    dropped_A = (boxes_A4[:, 2:] < 1).any(axis=1)
    dropped_A |= np.array([one.area <= 0 for one in file.annotations])
    if dropped_A.mean() > 0.5:
        yield Fault(
            f"{int(dropped_A.sum()):,} of {len(boxes_A4):,} annotations have an area of 0 or a box less "
            f"than a pixel wide or high, and training leaves such out: {example(dropped_A)}",
            "write boxes and areas in pixels of the image",
        )
        return
    ends_A2 = boxes_A4[:, :2] + boxes_A4[:, 2:]
    # A pixel's tolerance: outlines were drawn by hand, and their numbers are rounded.
    reaching_A = ((boxes_A4[:, :2] < -1) | (ends_A2 > sizes_A2 + 1)).any(axis=1) & listed_A
    seen_A2 = np.minimum(ends_A2, sizes_A2) - np.maximum(boxes_A4[:, :2], 0)
    mostly_unseen_A = np.maximum(seen_A2, 0).prod(axis=1) < boxes_A4[:, 2:].prod(axis=1) / 2
    empty_A = (boxes_A4[:, 2:] <= 0).any(axis=1) & listed_A
    # A crowd's box is of a region, and no object has to be found in it.
    outside_A = reaching_A & (mostly_unseen_A | (seen_A2 < 0).any(axis=1)) & ~empty_A & ~crowd_A
    tolerated = _TOLERATED * len(boxes_A4)
    scaled = reaching_A.sum() > len(boxes_A4) / 2
    if (number := int(outside_A.sum())) and not scaled:
        found = counted(number, "box lies", "boxes lie")
        yield Fault(
            f"{found} outside the image with more than half of the area: {example(outside_A)}",
            "correct the boxes, or remove the annotations",
            # Training leaves out those that do not meet their image.
            fatal=evaluated or number > tolerated,
        )
        reaching_A &= ~outside_A
    for wrong_A, one, more, fix in (
        (
            reaching_A,
            "boxes reaches out of its image",
            "boxes reach out of their images",
            "cut them off at the image's edges",
        ),
        (empty_A, "boxes has no area", "boxes have no area", "remove these annotations"),
    ):
        if (number := int(wrong_A.sum())) > tolerated:
            found = counted_of(number, len(boxes_A4), one, more)
            # Training and evaluation take some of them; most are of another scale than the images.
            yield Fault(f"{found}: {example(wrong_A)}", fix, fatal=number > len(boxes_A4) / 2)


def _check_masks(file: CocoFile, *, evaluated: bool) -> Iterator[Fault]:
    unmasked, faults, resized = 0, [], []
    beside: list[tuple[int, bool]] = []
    for place, one in enumerate(file.annotations):
        mask = read_mask(one.segmentation)
        image = file.images.get(one.image_id)
        if not mask:
            unmasked += 1
        elif fault := mask_fault(mask):
            faults.append(f"annotations[{place}].segmentation (annotation {one.id}) {fault}")
        elif isinstance(mask, Runs) and image and (size := mask.size[::-1]) != image.size:
            resized.append(
                f"annotation {one.id} has a mask of {size[0]} x {size[1]}, its image is "
                f"{image.width} x {image.height}"
            )
        elif isinstance(mask, list) and strays(mask):
            # pycocotools takes a mask for boxes by the length of its first polygon.
            beside.append((one.id, evaluated and len(mask[0]) <= 4))
    if unmasked:
        found = counted_of(unmasked, len(file.annotations), "annotations has", "annotations have")
        yield Fault(f"{found} no segmentation", "add it: masks are trained on and measured here")
    if faults:
        found = counted(len(faults), "mask is", "masks are")
        fix = "correct it, or remove the annotation"
        yield Fault(f"{found} not of COCO's format: {faults[0]}", fix)
    yield from _check_strays(beside)
    if resized:
        found = counted(len(resized), "mask has", "masks have")
        yield Fault(
            f"{found} another size than the image: {resized[0]}",
            "give each mask its image's size: AP on scaled masks is another number",
        )
    boxes_P4, ends_P2 = _outlines(file)
    apart_P = np.abs(boxes_P4[:, :2] + boxes_P4[:, 2:] - ends_P2).max(axis=1) > _PIXELS
    if apart_P.sum() > len(apart_P) / 2:
        found = counted_of(
            int(apart_P.sum()), len(apart_P), "outlines does not end", "outlines do not end"
        )
        yield Fault(
            f"{found} where the box does: outlines or boxes were scaled",
            "write both in pixels of the image",
        )


def _check_strays(beside: list[tuple[int, bool]]) -> Iterator[Fault]:
    """Report polygons that enclose nothing, beside others of the same object.

    Args:
        beside: ids of annotations, and whether COCO's tools fail at the polygon.
    """
    if failing := [number for number, fails in beside if fails]:
        found = counted(len(failing), "mask begins", "masks begin")
        found = f"{found} with a polygon of fewer than 5 numbers, at which COCO's tools fail"
    elif beside:
        found = counted(len(beside), "mask has", "masks have")
        found = f"{found} a polygon of fewer than 6 numbers beside whole ones, which is left out"
    else:
        return
    example = failing[0] if failing else beside[0][0]
    fix = "remove these polygons, which enclose nothing"
    yield Fault(f"{found}: annotation {example}", fix, fatal=bool(failing))


def _are_corners(file: CocoFile) -> bool:
    """Return whether most outlines end at the last two numbers of their boxes."""
    boxes_P4, ends_P2 = _outlines(file)
    as_size_P = np.abs(boxes_P4[:, :2] + boxes_P4[:, 2:] - ends_P2).sum(axis=1)
    as_corner_P = np.abs(boxes_P4[:, 2:] - ends_P2).sum(axis=1)
    corners_P = (as_corner_P < as_size_P) & (as_corner_P < _PIXELS)
    return bool(corners_P.sum() > len(corners_P) / 2)


def _outlines(file: CocoFile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return boxes_P4 of some annotations, and ends_P2, the largest x and y of their outlines."""
    boxes, ends = [], []
    for one in file.annotations[::_EVERY]:
        mask = read_mask(one.segmentation)
        if isinstance(mask, list) and mask and not mask_fault(mask):
            left_out = strays(mask)
            whole = [polygon for place, polygon in enumerate(mask) if place not in left_out]
            boxes.append(one.bbox)
            ends.append([max(max(polygon[axis::2]) for polygon in whole) for axis in (0, 1)])
    return np.array(boxes, float).reshape(-1, 4), np.array(ends, float).reshape(-1, 2)


def check_images(
    folder: Path,
    file: CocoFile,
    images: Sequence[Image],
    *,
    decode: bool = False,
    as_stored: bool = False,
    on_read: Callable[[], None] | None = None,
) -> Iterator[Fault]:
    """Check image files against their entries.

    Args:
        images: the entries to look at.
        decode: every pixel, so that damage anywhere is found.
        as_stored: the reader does not heed EXIF's orientation.
        on_read: called after each file.
    """
    again = f"copy or unpack the images of {folder.name} again"
    times = Counter(one.file_name for one in file.images.values())
    if doubled := [name for name, number in times.items() if number > 1]:
        found = counted(len(doubled), "image file is", "image files are")
        yield Fault(f"{found} in several entries: {first(doubled)}", "keep one entry per image")
    sizes = {one.file_name: one.size for one in images}
    headers = read_headers((folder / name for name in sizes), decode=decode, on_read=on_read)
    named = list(zip(sizes.items(), headers, strict=True))
    if broken := [f"{name} ({one.error})" for (name, _), one in named if one.error]:
        found = f"{len(broken):,} of {len(headers):,} images in {folder} cannot be read"
        yield Fault(f"{found}: {first(broken)}", again)
    whole = [(name, one, size) for (name, size), one in named if not one.error]
    turned, resized = other_sizes(whole, as_stored=as_stored)
    if turned:
        yield turned_fault(turned, "annotations", where=f"in {folder} ")
    if resized:
        found = counted_of(len(resized), len(headers), "images has", "images have")
        examples = [
            f"{name} is {one.size}, its entry {size[0]} x {size[1]}" for name, one, size in resized
        ]
        yield Fault(
            f"{found} another size than the annotation file says: {first(examples)}",
            f"{again}: boxes are in pixels of the image",
        )
