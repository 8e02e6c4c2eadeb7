"""ADE20K's scene parsing benchmark (SceneParse150): pairs, sizes, and whether labels are the release's.

All headers are read; pixels of all validation masks, and of some training masks evenly spaced.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from micl_bench.data.dense_checks import (
    add_labels,
    histogram,
    label_fault,
    nearest_offset,
)
from micl_bench.data.headers import in_threads, spread
from micl_bench.data.image_files import list_images
from micl_bench.data.mask_checks import check_pairs, read_pairs, readable
from micl_bench.doctor._finding import Finding, of_fault, problem, warning
from micl_bench.doctor._names import files_and_others, first, subfolders
from micl_bench.doctor._release import against_release
from micl_bench.runtime.wording import counted, plural

IMAGES = {"training": 20_210, "validation": 2_000}
CLASSES = 150
ARCHIVE = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
_SAMPLE = {"training": 500}
_UNPACK = f"unpack {ARCHIVE} again"
# Shares of pixels, wall first, in 1/10,000: column Ratio of objectInfo150.txt in the release.
_RATIOS = (
    "1576 1072 878 621 480 450 398 231 198 183 181 166 160 151 118 110 109 104 104 103 98 74 67 65 "
    "61 60 53 52 46 44 44 44 33 31 30 27 26 24 24 23 23 22 22 20 19 19 18 18 18 18 18 18 18 17 17 "
    "17 17 17 15 15 15 15 14 14 14 14 14 13 13 13 12 12 12 12 11 10 9 9 9 9 9 8 8 8 8 8 7 7 7 7 7 "
    "7 7 6 6 6 6 6 6 6 6 6 6 6 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 4 4 4 4 4 4 4 4 4 4 4 4 4 3 3 3 3 "
    "3 3 3 3 3 3 3 3 3 2 2 2"
)
_SHARES = tuple(int(ratio) / 10_000 for ratio in _RATIOS.split())
# Half the sum of absolute differences of shares; classes in any other order differ by more.
_OTHER_SHARES = 0.25


def check_ade20k(folder: Path, *, embedded_classes: int = 0) -> Iterator[Finding]:
    """Both splits; with `embedded_classes`, of a set in ADE20K's layout with so many classes."""
    if full := _full_release(folder):
        yield full
        return
    for split in IMAGES:
        yield from _check_split(folder, split, embedded_classes)


def _full_release(folder: Path) -> Finding | None:
    """Where the folder is ADE20K as released for all its classes: images sorted by scene, colours."""
    scenes = folder / "images" / "training"
    inside = subfolders(scenes) if scenes.is_dir() else []
    sorted_by_scene = any(child.suffix != ".jpg" for child in inside)
    if (folder / "images" / "ADE").is_dir() or sorted_by_scene:
        return problem(
            str(folder),
            "the full release of ADE20K, with thousands of classes; the benchmark has 150",
            f"unpack {ARCHIVE} and give ADEChallengeData2016",
        )
    return None


def _check_split(folder: Path, split: str, embedded_classes: int) -> Iterator[Finding]:
    subject = f"{folder} ({split})"
    places = folder / "images" / split, folder / "annotations" / split
    (images, no_images), (masks, no_masks) = _files(places[0], ".jpg"), _files(places[1], ".png")
    for place, files, others in zip(places, (images, masks), (no_images, no_masks), strict=True):
        if others:
            found = (
                f"{counted(len(others), 'entry', 'entries')} of {place} "
                f"{plural(len(others), 'is no file', 'are no files')}: {first(others)}"
            )
            yield problem(subject, found, f"remove them, and {_UNPACK}")
        if not files:
            yield problem(subject, f"no file in {place}", _UNPACK)
    for place, suffix in zip(places, (".jpg", ".png"), strict=True):
        others = [name for name in list_images(place)[0] if not name.endswith(suffix)]
        if others and place.is_dir():
            found = (
                f"{counted(len(others), 'image')} in {place} "
                f"{plural(len(others), 'is', 'are')} not read: {first(others)}"
            )
            yield warning(subject, found, f"let their names end in {suffix}, in lower case")
    if not images or not masks:
        return
    counts = against_release(
        subject,
        f"ADE20K: {counted(len(images), 'image')}",
        title="ADE20K",
        images=len(images),
        expected=0 if embedded_classes else IMAGES[split],
        unpack=_UNPACK,
    )
    number = _SAMPLE.get(split, len(masks))
    how = f"{number} masks, evenly spaced," if number < len(masks) else "all masks"
    yield dataclasses.replace(counts, found=f"{counts.found}; labels of {how} were read")
    for what, other, names in (
        ("image", "an annotation", sorted(images.keys() - masks.keys())),
        ("annotation", "an image", sorted(masks.keys() - images.keys())),
    ):
        if names:
            yield problem(
                subject, f"{counted(len(names), what)} without {other}: {first(names)}", _UNPACK
            )
    pairs = [(images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]
    headers = read_pairs(pairs)
    for fault in check_pairs(pairs, headers):
        yield of_fault(subject, dataclasses.replace(fault, fix=f"{fault.fix}; ADE20K's: {_UNPACK}"))
    if whole_masks := readable(pairs, headers):
        whole = not embedded_classes and len(images) == IMAGES[split]
        yield from _check_labels(
            subject, spread(whole_masks, number), embedded_classes or CLASSES, whole
        )


def _files(folder: Path, suffix: str) -> tuple[dict[str, Path], list[str]]:
    """Files by stem, as mmsegmentation pairs them, and names of what is called so and is no file."""
    files, others = files_and_others(folder)
    paths = [folder / name for name in files if name.endswith(suffix)]
    return {path.stem: path for path in paths}, sorted(n for n in others if n.endswith(suffix))


def _check_labels(subject: str, masks: list[Path], classes: int, whole: bool) -> Iterator[Finding]:
    try:
        labels = add_labels(in_threads(histogram, masks))
    except Exception as error:  # a mask whose header is well and whose pixels are not
        yield problem(subject, f"masks cannot be decoded: {error}", _UNPACK)
        return
    fault = label_fault(labels, num_classes=classes, reduce_zero_label=True)
    offset, distance = nearest_offset(labels, _SHARES) if whole else (0, 0.0)
    if not fault and offset:
        fault = f"labels fit ADE20K's classes when {-offset:+d} is added, not as they are"
    if fault:
        mend = (
            f"{_UNPACK}: 0 is other, 1 wall, ..., 150 flag; loading subtracts 1 (reduce_zero_label)"
        )
        yield problem(subject, f"wrong label offset in {labels.masks:,} masks: {fault}", mend)
    elif distance > _OTHER_SHARES:
        yield problem(
            subject,
            f"classes in another order: their shares of pixels in {labels.masks:,} masks are not the "
            f"release's ({distance:.0%} of the pixels would have to change class)",
            _UNPACK,
        )
