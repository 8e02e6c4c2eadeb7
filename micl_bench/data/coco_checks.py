"""A COCO file that can be read: whether it means what training and evaluation take it for.

`doctor` and `eval coco` ask the same questions here; whether the classes are those of a release or of
a config is theirs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.data.coco_file import CocoFile, read_coco
from micl_bench.data.faults import Fault, counted_of, first
from micl_bench.data.headers import Header, OnRead, read_headers
from micl_bench.runtime.wording import counted

# The release has some: two boxes of train2017 are no pixel high (cocodataset/cocoapi issue 355).
_TOLERATED = 1 / 1000
_PIXELS = 2.0
_KEYS = 6
_TURN = (
    "save the images with their pixels turned and without the tag, or, where the annotations are of the "
    "pixels as stored, read them so: color_type='color_ignore_orientation' in LoadImageFromFile"
)


def opened(file: Path) -> CocoFile | Fault:
    """Read a file, or say why it cannot be."""
    try:
        return read_coco(file)
    except (ValueError, OSError) as error:
        found = " ".join(str(getattr(error, "strerror", None) or error).split())
        return Fault(f"{file} is no COCO file: {found}"[:400], "write it again in COCO's format")


def check_annotations(
    file: CocoFile, *, evaluated: bool = True, masks: bool = True
) -> Iterator[Fault]:
    """All annotations against each other and against the images and categories that are listed.

    Args:
        evaluated: the file is measured on, not only trained on.
        masks: they are used.
    """
    if not file.has_instances():
        yield Fault(_lacks(file), "give a file of objects with boxes, as COCO's instances_*.json")
        return
    boxes_A4, images_A = file.boxes_A4(), np.asarray(file.image_ids)
    listed_A = np.isin(images_A, np.asarray(list(file.images)))
    if number := int((~listed_A).sum()):
        index = int(np.flatnonzero(~listed_A)[0])
        found = counted(number, "annotation is", "annotations are")
        yield Fault(
            f"{found} of images that the file does not list: annotation {file.ids[index]} is of image "
            f"{images_A[index]}",
            "add the images to the list 'images', or remove the annotations",
        )
    yield from _check_categories(file)
    yield from _check_ids(np.asarray(file.ids), evaluated=evaluated)
    if _are_corners(file, boxes_A4):
        yield Fault(
            "boxes are written as two corners (x1, y1, x2, y2); COCO's are one corner and the size (x, "
            "y, width, height)",
            "write x, y, width, height",
        )
        return
    yield from _check_boxes(file, boxes_A4, listed_A, evaluated=evaluated)
    if masks:
        yield from _check_masks(file, boxes_A4, evaluated=evaluated)


def _lacks(file: CocoFile) -> str:
    """What it has not that instances have."""
    if not file.keys:
        return "it has no annotations"
    if missing := [key for key in ("bbox", "category_id") if key not in file.keys]:
        has = ", ".join(sorted(file.keys)[:_KEYS])
        return f"its annotations have no {' and no '.join(missing)} (the first has {has})"
    return "it lists no categories"


def missing_classes(file: CocoFile, classes: Sequence[str]) -> list[str]:
    """Classes that no category has the name of."""
    names = {name for _, name in file.categories}
    return [name for name in classes if name not in names]


def other_categories(file: CocoFile, classes: Sequence[str]) -> dict[str, int]:
    """Annotations of each category that is no class; only where there are some."""
    names = dict(file.categories)
    used = Counter(names[one] for one in file.category_ids if one in names)
    return {name: number for name, number in used.items() if name not in set(classes)}


def check_images(
    folder: Path,
    file: CocoFile,
    headers: dict[str, Header],
    *,
    as_stored: bool = False,
) -> Iterator[Fault]:
    """Image files against their entries.

    Args:
        headers: of the files that were looked at, by name.
        as_stored: the reader does not heed EXIF's orientation.
    """
    again = f"copy or unpack the images of {folder.name} again"
    entries = {name: file.sizes[number] for number, name in file.images.items()}
    if doubled := [name for name, times in Counter(file.images.values()).items() if times > 1]:
        found = counted(len(doubled), "image file is", "image files are")
        yield Fault(f"{found} in several entries: {first(doubled)}", "keep one entry per image")
    if broken := [f"{name} ({one.error})" for name, one in headers.items() if one.error]:
        found = f"{len(broken):,} of {len(headers):,} images in {folder} cannot be read"
        yield Fault(f"{found}: {first(broken)}", again)
    whole = {name: one for name, one in headers.items() if not one.error}
    # Turned where that brings them to their entry's size, boxes are of the turned image.
    turned = [
        f"{name} (orientation {one.orientation})"
        for name, one in whole.items()
        if one.orientation > 1 and not as_stored and not _fits_turned(one, entries[name])
    ]
    if turned:
        found = counted(len(turned), "image is", "images are")
        yield Fault(
            f"in {folder} {found} turned by EXIF when read, while the annotations are not: "
            f"{first(turned)}",
            _TURN,
        )
    resized = [
        f"{name} is {one.size}, its entry {entries[name][0]} x {entries[name][1]}"
        for name, one in whole.items()
        if entries[name] != ((one.width, one.height) if as_stored else one.shown)
        and (as_stored or one.orientation == 1)
    ]
    if resized:
        found = counted_of(len(resized), len(headers), "images has", "images have")
        yield Fault(
            f"{found} another size than the annotation file says: {first(resized)}",
            f"{again}: boxes are in pixels of the image",
        )


def image_headers(
    folder: Path,
    names: Sequence[str],
    *,
    decode: bool = False,
    on_read: OnRead | None = None,
) -> dict[str, Header]:
    """Headers of image files, by name."""
    files = [folder / name for name in names]
    return dict(zip(names, read_headers(files, decode=decode, on_read=on_read), strict=True))


def _fits_turned(header: Header, entry: tuple[int, int]) -> bool:
    """Whether only the turned image has the entry's size."""
    return header.shown == entry != (header.width, header.height)


def _check_categories(file: CocoFile) -> Iterator[Fault]:
    used, known = Counter(file.category_ids), {number for number, _ in file.categories}
    if strange := sorted(used.keys() - known):
        number = sum(used[one] for one in strange)
        found = counted(number, "annotation has a category", "annotations have categories")
        yield Fault(
            f"{found} that the file does not list, as by a wrong label offset: category_id "
            f"{first([str(one) for one in strange])}; ids in use are {min(used)} to {max(used)}, "
            f"listed are {min(known)} to {max(known)}",
            "list these categories, or give the annotations the ids that are listed",
        )


def _check_ids(ids_A: NDArray[np.int64], *, evaluated: bool) -> Iterator[Fault]:
    if doubled := len(ids_A) - len(np.unique(ids_A)):
        found = counted(doubled, "annotation has", "annotations have")
        found = f"{found} an id that another one has too: only the last of each id is read"
        yield Fault(found, "number annotations from 1, each by a number of its own")
    if evaluated and (ids_A == 0).any():
        found = "an annotation has id 0, which pycocotools counts as missed even when it is found"
        yield Fault(found, "number annotations from 1")


def _check_boxes(
    file: CocoFile,
    boxes_A4: NDArray[np.float64],
    listed_A: NDArray[np.bool_],
    *,
    evaluated: bool,
) -> Iterator[Fault]:
    if not len(boxes_A4):
        return
    small_A = (boxes_A4[:, 2:] < 1).any(axis=1)
    dropped_A = small_A | (np.asarray(file.areas) <= 0)
    if dropped_A.mean() > 0.5:
        yield Fault(
            f"{int(dropped_A.sum()):,} of {len(boxes_A4):,} annotations have an area of 0 or a box less "
            "than a pixel wide or high, and training leaves such out: "
            f"{_example(file, boxes_A4, dropped_A)}",
            "write boxes and areas in pixels of the image",
        )
        return
    sizes_A2 = np.asarray([file.sizes.get(image, (0, 0)) for image in file.image_ids]).reshape(
        -1, 2
    )
    ends_A2 = boxes_A4[:, :2] + boxes_A4[:, 2:]
    # A pixel's tolerance: outlines were drawn by hand, and their numbers are rounded.
    reaching_A = ((boxes_A4[:, :2] < -1) | (ends_A2 > sizes_A2 + 1)).any(axis=1) & listed_A
    seen_A2 = np.minimum(ends_A2, sizes_A2) - np.maximum(boxes_A4[:, :2], 0)
    seen_A = np.maximum(seen_A2, 0).prod(axis=1)
    outside_A = reaching_A & (seen_A < boxes_A4[:, 2:].prod(axis=1) / 2)
    outside_A |= reaching_A & (seen_A2 < 0).any(axis=1)
    empty_A = ~(boxes_A4[:, 2:] > 0).all(axis=1) & listed_A
    # A crowd's box is of a region, and no object has to be found in it.
    outside_A &= ~empty_A & ~np.asarray(file.crowds, dtype=bool)
    scaled = reaching_A.sum() > len(boxes_A4) / 2
    if (number := int(outside_A.sum())) and not scaled:
        found = counted(number, "box lies", "boxes lie")
        yield Fault(
            f"{found} outside the image with more than half of the area: "
            f"{_example(file, boxes_A4, outside_A)}",
            "correct the boxes, or remove the annotations",
            # Training leaves out those that do not meet their image.
            fatal=evaluated or number > _TOLERATED * len(boxes_A4),
        )
        reaching_A &= ~outside_A
    for one, more, fix, wrong_A in (
        (
            "boxes reaches out of its image",
            "boxes reach out of their images",
            "cut them off at the image's edges",
            reaching_A,
        ),
        ("boxes has no area", "boxes have no area", "remove these annotations", empty_A),
    ):
        if (number := int(wrong_A.sum())) > _TOLERATED * len(boxes_A4):
            found = counted_of(number, len(boxes_A4), one, more)
            # Training and evaluation take some of them; most are of another scale than the images.
            fatal = number > len(boxes_A4) / 2
            yield Fault(f"{found}: {_example(file, boxes_A4, wrong_A)}", fix, fatal=fatal)


def _are_corners(file: CocoFile, boxes_A4: NDArray[np.float64]) -> bool:
    """Whether outlines end where the last two numbers say, in most annotations."""
    if not file.polygons:
        return False
    index_P, ends_P2 = _polygons(file)
    boxes_P4 = boxes_A4[index_P]
    as_size_P = np.abs(boxes_P4[:, :2] + boxes_P4[:, 2:] - ends_P2).sum(axis=1)
    as_corner_P = np.abs(boxes_P4[:, 2:] - ends_P2).sum(axis=1)
    return bool(np.mean((as_corner_P < as_size_P) & (as_corner_P < _PIXELS)) > 0.5)


def _check_masks(
    file: CocoFile, boxes_A4: NDArray[np.float64], *, evaluated: bool
) -> Iterator[Fault]:
    if file.unmasked:
        found = counted_of(file.unmasked, len(boxes_A4), "annotations has", "annotations have")
        yield Fault(f"{found} no segmentation", "add it: masks are trained on and measured here")
    if file.mask_faults:
        found = counted(len(file.mask_faults), "mask is", "masks are")
        yield Fault(
            f"{found} not of COCO's format: {file.mask_faults[0]}",
            "correct it, or remove the annotation",
        )
    yield from _check_strays(file, evaluated=evaluated)
    resized = [
        f"annotation {file.ids[index]} has a mask of {width} x {height}, its image is {size[0]} x "
        f"{size[1]}"
        for index, width, height in file.runs
        if (size := file.sizes.get(file.image_ids[index], (width, height))) != (width, height)
    ]
    if resized:
        found = counted(len(resized), "mask has", "masks have")
        yield Fault(
            f"{found} another size than the image: {resized[0]}",
            "give each mask its image's size: AP on scaled masks is another number",
        )
    if not file.polygons:
        return
    index_P, ends_P2 = _polygons(file)
    boxes_P4 = boxes_A4[index_P]
    apart_P = np.abs(boxes_P4[:, :2] + boxes_P4[:, 2:] - ends_P2).max(axis=1) > _PIXELS
    if apart_P.mean() > 0.5:
        found = counted_of(
            int(apart_P.sum()), len(apart_P), "outlines does not end", "outlines do not end"
        )
        yield Fault(
            f"{found} where the box does: outlines or boxes were scaled",
            "write both in pixels of the image",
        )


def _check_strays(file: CocoFile, *, evaluated: bool) -> Iterator[Fault]:
    """Polygons that enclose nothing, beside others of the same object."""
    leading = [index for index, leads in file.strays if leads and evaluated]
    if leading:
        found = counted(len(leading), "mask begins", "masks begin")
        yield Fault(
            f"{found} with a polygon of fewer than 5 numbers, at which COCO's tools fail: "
            f"annotation {file.ids[leading[0]]}",
            "remove these polygons, which enclose nothing",
        )
    elif file.strays:
        found = counted(len(file.strays), "mask has", "masks have")
        yield Fault(
            f"{found} a polygon of fewer than 6 numbers beside whole ones, which is left out: "
            f"annotation {file.ids[file.strays[0][0]]}",
            "remove these polygons, which enclose nothing",
            fatal=False,
        )


def _polygons(file: CocoFile) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows_P3 = np.asarray(file.polygons, dtype=np.float64).reshape(-1, 3)
    return rows_P3[:, 0].astype(np.int64), rows_P3[:, 1:]


def _example(file: CocoFile, boxes_A4: NDArray[np.float64], wrong_A: Any) -> str:
    index = int(np.flatnonzero(wrong_A)[0])
    size = file.sizes.get(file.image_ids[index], (0, 0))
    box = boxes_A4[index].tolist()
    return f"annotation {file.ids[index]} has the box {box} in an image of {size[0]} x {size[1]}"
