"""COCO 2017's detection and instance segmentation, as released: annotations, images, whether they fit.

Annotations are read whole, entry by entry, by the checks that `eval coco` makes; of the images, names,
and headers of some.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from micl_bench.data.coco_checks import check_annotations, check_images, image_headers, opened
from micl_bench.data.coco_file import CocoFile
from micl_bench.data.faults import Fault
from micl_bench.data.headers import spread
from micl_bench.doctor._coco_categories import check_categories
from micl_bench.doctor._finding import Finding, of_fault, problem, warning
from micl_bench.doctor._names import files_and_others, first
from micl_bench.doctor._release import against_release
from micl_bench.runtime.wording import counted, plural

IMAGES = {"train2017": 118_287, "val2017": 5_000}
# cocodataset/cocoapi issue 76 lists the other 1,021 of train, and mmdetection's YOLOF config has this
# number; of val, giddyyupp/coco-minitrain issue 34.
WITH_OBJECTS = {"train2017": 117_266, "val2017": 4_952}
_HEADERS = 5_000
_ANNOTATIONS = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
_UNPACK = f"unpack {_ANNOTATIONS} again"


def check_coco(folder: Path, *, embedded: bool = False) -> Iterator[Finding]:
    """Both splits; `embedded`: in COCO's layout, with other classes and as many images as there are."""
    files: dict[str, CocoFile] = {}
    for split in IMAGES:
        subject = f"{folder} ({split})"
        file = folder / "annotations" / f"instances_{split}.json"
        if not file.is_file():
            mend = f"unpack {_ANNOTATIONS} there"
            yield problem(subject, f"there is no {file}", mend)
            continue
        read = opened(file)
        if isinstance(read, Fault):
            yield problem(subject, read.found, f"{read.fix}; COCO's own: {_UNPACK}")
            continue
        files[split] = read
        yield from _check_split(folder / split, subject, split, read, embedded)
    names = [set(file.images.values()) for file in files.values()]
    if len(names) == 2 and (both := sorted(names[0] & names[1])):
        yield problem(
            str(folder),
            f"{counted(len(both), 'image')} {plural(len(both), 'is', 'are')} "
            f"in both splits, so that training sees them: {first(both)}",
            _UNPACK,
        )


def _check_split(
    folder: Path, subject: str, split: str, file: CocoFile, embedded: bool
) -> Iterator[Finding]:
    whole = len(file.images) == IMAGES[split] and not embedded
    images, objects = len(file.images), file.images_with_objects()
    yield against_release(
        subject,
        f"COCO: {counted(images, 'image')}, {objects:,} of them with objects",
        title="COCO",
        images=images,
        expected=0 if embedded else IMAGES[split],
        unpack=_UNPACK,
    )
    if whole and objects != WITH_OBJECTS[split]:
        found = f"{counted(objects, 'image')} with objects; the release has {WITH_OBJECTS[split]:,}"
        yield warning(subject, found, f"of COCO, {_UNPACK}; other annotations may stay as they are")
    for fault in check_annotations(file, evaluated=split.startswith("val")):
        yield of_fault(subject, fault)
    if not file.has_instances():
        return
    yield from check_categories(subject, file, embedded=embedded, whole=whole, mend=_UNPACK)
    yield from _check_images(folder, subject, file)


def _check_images(folder: Path, subject: str, file: CocoFile) -> Iterator[Finding]:
    files, others = files_and_others(folder)
    listed = set(file.images.values())
    files |= {
        name for name in listed - files - others if os.sep in name and (folder / name).is_file()
    }
    archive = f"http://images.cocodataset.org/zips/{folder.name}.zip"
    if missing := sorted(listed - files - others):
        found = (
            f"{counted(len(missing), 'image')} of the annotations not in {folder}: {first(missing)}"
        )
        yield problem(subject, found, f"unpack {archive} again")
    if unreadable := sorted(listed & others):
        found = f"{len(unreadable):,} images in {folder} are no files: {first(unreadable)}"
        yield problem(subject, found, f"remove them, and unpack {archive} again")
    if more := sorted((files | others) - listed):
        found = (
            f"{counted(len(more), 'file')} in {folder} that "
            f"the annotations do not name: {first(more)}"
        )
        mend = "use images and annotations of one release; these are never read"
        yield warning(subject, found, mend)
    headers = image_headers(folder, spread(sorted(listed & files), _HEADERS))
    for fault in check_images(folder, file, headers):
        yield of_fault(subject, fault)
