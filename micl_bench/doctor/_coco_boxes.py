"""Boxes and masks of COCO annotations: in their images, of the right form, one an annotation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.doctor._coco_file import CocoFile
from micl_bench.doctor._finding import Finding, problem

# The release has some: two boxes of train2017 are no pixel high (cocodataset/cocoapi issue 355).
_TOLERATED = 1 / 1000
_PIXELS = 2.0


def check_boxes(subject: str, file: CocoFile, *, mend: str) -> Iterator[Finding]:
    """All boxes, and the masks' sizes."""
    boxes_A4, images_A = file.boxes_A4(), np.asarray(file.image_ids)
    listed_A = np.isin(images_A, np.asarray(list(file.images)))
    if number := int((~listed_A).sum()):
        yield problem(subject, f"{number:,} annotations of images that are not listed", mend)
    yield from _check_ids(subject, np.asarray(file.ids), mend)
    if file.unmasked > _TOLERATED * len(boxes_A4):
        found = f"{file.unmasked:,} of {len(boxes_A4):,} annotations have no segmentation"
        yield problem(subject, found, f"{mend}: mask AP needs them")
    corners = _are_corners(file, boxes_A4)
    if corners:
        yield problem(
            subject,
            "boxes are two corners (x1, y1, x2, y2), COCO's are corner and size (x, y, width, height)",
            mend,
        )
        return
    sizes_A2 = np.asarray([file.sizes.get(image, (0, 0)) for image in file.image_ids]).reshape(
        -1, 2
    )
    # A pixel's tolerance: outlines were drawn by hand, and their numbers are rounded.
    low_A = (boxes_A4[:, :2] < -1).any(axis=1)
    beyond_A = (boxes_A4[:, :2] + boxes_A4[:, 2:] > sizes_A2 + 1).any(axis=1)
    for what, wrong_A in (
        ("boxes reach out of their images", (low_A | beyond_A) & listed_A),
        ("boxes have no area", ~(boxes_A4[:, 2:] > 0).all(axis=1)),
    ):
        if (number := int(wrong_A.sum())) > _TOLERATED * len(boxes_A4):
            found = f"{number:,} of {len(boxes_A4):,} {what}: {_example(file, boxes_A4, wrong_A)}"
            yield problem(subject, found, mend)
    yield from _check_masks(subject, file, boxes_A4, mend)


def _check_ids(subject: str, ids_A: NDArray[np.int64], mend: str) -> Iterator[Finding]:
    if doubled := len(ids_A) - len(np.unique(ids_A)):
        found = f"{doubled:,} annotations have an id that others have: all but one of them get lost"
        yield problem(subject, found, mend)
    if (ids_A == 0).any():
        found = "an annotation has id 0, which pycocotools counts as missed even when it is found"
        yield problem(subject, found, "number annotations from 1")


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
    subject: str, file: CocoFile, boxes_A4: NDArray[np.float64], mend: str
) -> Iterator[Finding]:
    resized = [
        f"annotation {file.ids[index]} has a mask of {width} x {height}, its image "
        f"{size[0]} x {size[1]}"
        for index, width, height in file.runs
        if (size := file.sizes.get(file.image_ids[index], (width, height))) != (width, height)
    ]
    if resized:
        found = f"{len(resized):,} masks have another size than their image: {resized[0]}"
        yield problem(subject, found, f"{mend}: AP on masks that were scaled is another number")
    if not file.polygons:
        return
    index_P, ends_P2 = _polygons(file)
    boxes_P4 = boxes_A4[index_P]
    apart_P = np.abs(boxes_P4[:, :2] + boxes_P4[:, 2:] - ends_P2).max(axis=1) > _PIXELS
    if apart_P.mean() > 0.5:
        found = (
            f"{int(apart_P.sum()):,} of {len(apart_P):,} outlines do not end where their boxes do"
        )
        yield problem(subject, f"{found}: one of them was scaled", mend)


def _polygons(file: CocoFile) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows_P3 = np.asarray(file.polygons, dtype=np.float64).reshape(-1, 3)
    return rows_P3[:, 0].astype(np.int64), rows_P3[:, 1:]


def _example(file: CocoFile, boxes_A4: NDArray[np.float64], wrong_A: Any) -> str:
    index = int(np.flatnonzero(wrong_A)[0])
    size = file.sizes.get(file.image_ids[index], (0, 0))
    return f"annotation {file.ids[index]} is {boxes_A4[index].tolist()} in {size[0]} x {size[1]}"
