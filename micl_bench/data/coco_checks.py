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
from micl_bench.data.faults import Fault, first
from micl_bench.data.headers import Header, OnRead, read_headers

# The release has some: two boxes of train2017 are no pixel high (cocodataset/cocoapi issue 355).
_TOLERATED = 1 / 1000
_PIXELS = 2.0
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
        keys = ", ".join(sorted(file.keys)[:6]) or "no annotation at all"
        yield Fault(
            f"no instances with box and category ({keys} in each entry)",
            "give an instances file, neither captions nor keypoints",
        )
        return
    boxes_A4, images_A = file.boxes_A4(), np.asarray(file.image_ids)
    listed_A = np.isin(images_A, np.asarray(list(file.images)))
    if number := int((~listed_A).sum()):
        strange = images_A[~listed_A][0]
        yield Fault(
            f"{number:,} annotations of images that are not listed",
            f"list them, or remove the annotations; one is of image {strange}",
        )
    yield from _check_categories(file)
    yield from _check_ids(np.asarray(file.ids), evaluated=evaluated)
    if _are_corners(file, boxes_A4):
        yield Fault(
            "boxes are two corners (x1, y1, x2, y2), COCO's are corner and size (x, y, width, height)",
            "write x, y, width, height",
        )
        return
    yield from _check_boxes(file, boxes_A4, listed_A)
    if masks:
        yield from _check_masks(file, boxes_A4)


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
    again = f"unpack the images of {folder.name} again"
    entries = {name: file.sizes[number] for number, name in file.images.items()}
    if doubled := [name for name, times in Counter(file.images.values()).items() if times > 1]:
        found = f"{len(doubled):,} image files are in several entries: {first(doubled)}"
        yield Fault(found, "keep one entry an image")
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
        found = (
            f"{len(turned):,} images in {folder} are turned by EXIF when they are read, their "
            f"annotations are not: {first(turned)}"
        )
        yield Fault(found, _TURN)
    resized = [
        f"{name} is {one.size}, its entry {entries[name][0]} x {entries[name][1]}"
        for name, one in whole.items()
        if entries[name] != ((one.width, one.height) if as_stored else one.shown)
        and (as_stored or one.orientation == 1)
    ]
    if resized:
        found = f"{len(resized):,} of {len(headers):,} images have another size: {first(resized)}"
        yield Fault(found, f"{again}; boxes count in its pixels")


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
        yield Fault(
            f"wrong label offset: {sum(used[one] for one in strange):,} annotations have categories "
            f"that the file does not list: {first([str(one) for one in strange])}; ids in use are "
            f"{min(used)} to {max(used)}, listed are {min(known)} to {max(known)}",
            "list them, or give the annotations the ids that are listed",
        )


def _check_ids(ids_A: NDArray[np.int64], *, evaluated: bool) -> Iterator[Fault]:
    if doubled := len(ids_A) - len(np.unique(ids_A)):
        found = f"{doubled:,} annotations have an id that others have: all but one of them get lost"
        yield Fault(found, "number annotations from 1, each by a number of its own")
    if evaluated and (ids_A == 0).any():
        found = "an annotation has id 0, which pycocotools counts as missed even when it is found"
        yield Fault(found, "number annotations from 1")


def _check_boxes(
    file: CocoFile, boxes_A4: NDArray[np.float64], listed_A: NDArray[np.bool_]
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
    # A pixel's tolerance: outlines were drawn by hand, and their numbers are rounded.
    low_A = (boxes_A4[:, :2] < -1).any(axis=1)
    beyond_A = (boxes_A4[:, :2] + boxes_A4[:, 2:] > sizes_A2 + 1).any(axis=1)
    for what, fix, wrong_A in (
        ("boxes reach out of their images", "cut them off at its edges", low_A | beyond_A),
        ("boxes have no area", "remove them", ~(boxes_A4[:, 2:] > 0).all(axis=1)),
    ):
        wrong_A = wrong_A & listed_A
        if (number := int(wrong_A.sum())) > _TOLERATED * len(boxes_A4):
            found = f"{number:,} of {len(boxes_A4):,} {what}: {_example(file, boxes_A4, wrong_A)}"
            # Training and evaluation take some of them; most are of another scale than the images.
            yield Fault(found, fix, fatal=number > len(boxes_A4) / 2)


def _are_corners(file: CocoFile, boxes_A4: NDArray[np.float64]) -> bool:
    """Whether outlines end where the last two numbers say, in most annotations."""
    if not file.polygons:
        return False
    index_P, ends_P2 = _polygons(file)
    boxes_P4 = boxes_A4[index_P]
    as_size_P = np.abs(boxes_P4[:, :2] + boxes_P4[:, 2:] - ends_P2).sum(axis=1)
    as_corner_P = np.abs(boxes_P4[:, 2:] - ends_P2).sum(axis=1)
    return bool(np.mean((as_corner_P < as_size_P) & (as_corner_P < _PIXELS)) > 0.5)


def _check_masks(file: CocoFile, boxes_A4: NDArray[np.float64]) -> Iterator[Fault]:
    if file.unmasked:
        found = f"{file.unmasked:,} of {len(boxes_A4):,} annotations have no segmentation"
        yield Fault(found, "add it: mask AP needs them all")
    if file.mask_faults:
        found = f"{len(file.mask_faults):,} masks are not of COCO's format: {file.mask_faults[0]}"
        yield Fault(found, "correct it, or remove the annotation")
    resized = [
        f"annotation {file.ids[index]} has a mask of {width} x {height}, its image "
        f"{size[0]} x {size[1]}"
        for index, width, height in file.runs
        if (size := file.sizes.get(file.image_ids[index], (width, height))) != (width, height)
    ]
    if resized:
        found = f"{len(resized):,} masks have another size than their image: {resized[0]}"
        yield Fault(found, "give masks their image's size: AP on scaled ones is another number")
    if not file.polygons:
        return
    index_P, ends_P2 = _polygons(file)
    boxes_P4 = boxes_A4[index_P]
    apart_P = np.abs(boxes_P4[:, :2] + boxes_P4[:, 2:] - ends_P2).max(axis=1) > _PIXELS
    if apart_P.mean() > 0.5:
        found = (
            f"{int(apart_P.sum()):,} of {len(apart_P):,} outlines do not end where their boxes do"
        )
        yield Fault(f"{found}: one of them was scaled", "write both in pixels of the image")


def _polygons(file: CocoFile) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows_P3 = np.asarray(file.polygons, dtype=np.float64).reshape(-1, 3)
    return rows_P3[:, 0].astype(np.int64), rows_P3[:, 1:]


def _example(file: CocoFile, boxes_A4: NDArray[np.float64], wrong_A: Any) -> str:
    index = int(np.flatnonzero(wrong_A)[0])
    size = file.sizes.get(file.image_ids[index], (0, 0))
    return f"annotation {file.ids[index]} is {boxes_A4[index].tolist()} in {size[0]} x {size[1]}"
