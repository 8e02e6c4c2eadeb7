"""COCO 2017's detection and instance segmentation: annotations, images, and whether they fit.

Annotations are read whole, entry by entry; of the images, names, and headers of some.
"""

from collections.abc import Iterator
from pathlib import Path

from micl_bench.doctor._coco_boxes import check_boxes
from micl_bench.doctor._coco_categories import check_categories
from micl_bench.doctor._coco_file import CocoFile, read_coco
from micl_bench.doctor._finding import Finding, ok, problem, reason, warning
from micl_bench.doctor._headers import read_headers, spread
from micl_bench.doctor._names import files_and_others, first

IMAGES = {"train2017": 118_287, "val2017": 5_000}
# cocodataset/cocoapi issue 76 lists the other 1,021 of train, and mmdetection's YOLOF config has this
# number; of val, giddyyupp/coco-minitrain issue 34.
WITH_OBJECTS = {"train2017": 117_266, "val2017": 4_952}
_HEADERS = 5_000
# Of fewer images somebody chose them; of more, some were lost.
_NEARLY = 0.9
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
        try:
            files[split] = read_coco(file)
        except (ValueError, RecursionError) as error:
            yield problem(subject, f"{file} is no COCO file: {reason(error)}", _UNPACK)
            continue
        yield from _check_split(folder / split, subject, split, files[split], embedded)
    names = [set(file.images.values()) for file in files.values()]
    if len(names) == 2 and (both := sorted(names[0] & names[1])):
        yield problem(
            str(folder),
            f"{len(both):,} images are in both splits, so that training sees them: {first(both)}",
            _UNPACK,
        )


def _check_split(
    folder: Path, subject: str, split: str, file: CocoFile, embedded: bool
) -> Iterator[Finding]:
    whole = len(file.images) == IMAGES[split] and not embedded
    yield _counted(subject, file, 0 if embedded else IMAGES[split])
    objects = file.images_with_objects()
    if whole and objects != WITH_OBJECTS[split]:
        yield problem(
            subject, f"{objects:,} images with objects; {WITH_OBJECTS[split]:,} expected", _UNPACK
        )
    if not file.has_instances():
        yield problem(
            subject,
            f"no instances with box and category ({', '.join(sorted(file.keys)[:6])} in each entry)",
            f"{_UNPACK}: instances_{split}.json, neither captions nor keypoints",
        )
        return
    yield from check_categories(subject, file, embedded=embedded, whole=whole, mend=_UNPACK)
    yield from check_boxes(subject, file, mend=_UNPACK)
    yield from _check_images(folder, subject, file)


def _counted(subject: str, file: CocoFile, expected: int) -> Finding:
    images = len(file.images)
    found = f"COCO: {images:,} images, {file.images_with_objects():,} of them with objects"
    if not expected or images == expected:
        return ok(subject, found)
    if _NEARLY * expected < images < expected:
        return problem(subject, f"{found}; {expected - images:,} missing", _UNPACK)
    if images > expected:
        return problem(subject, f"{found}; the release has {expected:,}", _UNPACK)
    mend = f"name the subset wherever its numbers are shown; whole, it has {expected:,} images"
    return warning(subject, f"{found}: a part of COCO", mend)


def _check_images(folder: Path, subject: str, file: CocoFile) -> Iterator[Finding]:
    files, others = files_and_others(folder)
    listed = {name: image for image, name in file.images.items()}
    archive = f"http://images.cocodataset.org/zips/{folder.name}.zip"
    if missing := sorted(listed.keys() - files - others):
        found = f"{len(missing):,} images of the annotations are not in {folder}: {first(missing)}"
        yield problem(subject, found, f"unpack {archive} again")
    if unreadable := sorted(listed.keys() & others):
        found = f"{len(unreadable):,} images in {folder} are no files: {first(unreadable)}"
        yield problem(subject, found, f"remove them, and unpack {archive} again")
    if more := sorted((files | others) - listed.keys()):
        found = f"{len(more):,} files in {folder} that the annotations do not name: {first(more)}"
        mend = "use images and annotations of one release; these are never read"
        yield warning(subject, found, mend)
    names = spread(sorted(listed.keys() & files), _HEADERS)
    headers = dict(zip(names, read_headers([folder / name for name in names]), strict=True))
    if broken := [f"{name} ({one.error})" for name, one in headers.items() if one.error]:
        found = f"{len(broken):,} of {len(names):,} images cannot be read: {first(broken)}"
        yield problem(subject, found, f"unpack {archive} again")
    resized = [
        f"{name} is {one.size}, its entry {width} x {height}"
        for name, one in headers.items()
        for width, height in [file.sizes[listed[name]]]
        if not one.error and (one.width, one.height) != (width, height)
    ]
    if resized:
        found = f"{len(resized):,} of {len(names):,} images have another size: {first(resized)}"
        yield problem(subject, found, f"unpack {archive} again; boxes count in its pixels")
