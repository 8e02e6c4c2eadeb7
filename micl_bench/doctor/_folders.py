"""Data folders: what lies there, and whether it is whole.

Of each, what a run would fail by; what a release has beside that, is a remark.
"""

from pathlib import Path
from typing import Any

from micl_bench.data.image_files import list_classes, list_images
from micl_bench.doctor._finding import Finding, ok, problem, reason, warning
from micl_bench.doctor._imagenet import (
    WORDNET_ID,
    check_classes,
    check_loose,
    check_splits,
    check_store,
)
from micl_bench.doctor._images import check_images
from micl_bench.doctor._names import subfolders

_ADE20K = ("training", "validation")
_COCO = ("train2017", "val2017")


def check_data(folder: Path) -> list[Finding]:
    """What a data folder holds: ImageNet, shifted sets, ADE20K, COCO, the embedded set, packed stores.

    A folder of such folders is looked into, one level deep. A shifted set, or a part of the embedded
    set, that is given itself is known by its name and by what lies beside it.
    """
    if not folder.is_dir():
        return [problem(str(folder), "no such folder", "give the folder that holds the data")]
    try:
        sets, unchecked = _declared_sets(folder)
        if alone := _embedded_part(folder) or _shifted_set(folder, sets):
            return alone
        shifted = _shifted_sets(folder, sets)
        found = _recognise(folder)
        for child in subfolders(folder) if not found else ():
            found += [] if child.name in shifted else _recognise(child)
        found += [finding for findings in shifted.values() for finding in findings]
        found = (found or _classes_alone(folder)) + unchecked
    except OSError as error:
        mend = "make it readable, or give another folder"
        return [problem(str(folder), reason(error), mend)]
    return found or [
        problem(
            str(folder),
            "neither ImageNet, ADE20K, COCO, an image folder nor a packed store",
            "the layout is <folder>/train/<class>/<image>.jpg and <folder>/val/<class>/<image>.jpg",
        )
    ]


def _recognise(folder: Path) -> list[Finding]:
    from micl_bench.data.embedded.manifest import DESCRIPTION_FILE, PARTS

    if (folder / DESCRIPTION_FILE).is_file() and (folder / "embedded").is_dir():
        return [_embedded(folder, list(PARTS))]
    if (folder / "store.json").is_file() or (folder / "journal.jsonl").is_file():
        return [check_store(folder)]
    if dense := _dense(folder):
        return dense
    splits = [split for split in ("train", "val") if (folder / split).is_dir()]
    if splits:
        return list(check_splits(folder, splits))
    if any(WORDNET_ID.fullmatch(child.name) for child in subfolders(folder)):
        return list(check_classes(folder, ""))
    return list(check_loose(folder))


def _classes_alone(folder: Path) -> list[Finding]:
    """Where class folders with images lie in the folder itself, whatever they are called."""
    listing = list_classes(folder)
    return list(check_classes(folder, "")) if any(listing.classes.values()) else []


def _embedded(folder: Path, parts: list[str]) -> Finding:
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        mend = f"remove {folder} and make it again: micl-bench data embedded --out {folder}"
        return problem(str(folder), f"the embedded set without {', '.join(missing)}", mend)
    return ok(str(folder), f"the embedded set: {', '.join(parts)}")


def _dense(folder: Path, embedded_classes: int = 0) -> list[Finding]:
    """Where the folder is laid out as ADE20K or COCO; empty elsewhere."""
    segmentation = any((folder / "images" / split).is_dir() for split in (*_ADE20K, "ADE"))
    detection = any((folder / split).is_dir() for split in _COCO)
    try:
        if segmentation:
            from micl_bench.doctor._ade20k import check_ade20k

            return list(check_ade20k(folder, embedded_classes=embedded_classes))
        if detection:
            from micl_bench.doctor._coco import check_coco

            return list(check_coco(folder, embedded=bool(embedded_classes)))
    except ImportError as error:  # told elsewhere too
        found = f"not checked: {reason(error)}"
        return [warning(str(folder), found, "mend NumPy and Pillow")]
    return []


def _embedded_part(folder: Path) -> list[Finding]:
    """Where the folder is a part of the embedded set, or in one; empty elsewhere."""
    from micl_bench.data.embedded.manifest import CLASSES, embedded_name

    named = embedded_name(folder)
    if named is None:
        return []
    if not subfolders(folder) and not list_images(folder)[0]:
        mend = "make the embedded set again: micl-bench data embedded --out FOLDER"
        return [problem(str(folder), f"{named[0]} of the embedded set, without an image", mend)]
    splits = [split for split in ("train", "val") if (folder / split).is_dir()]
    found = ok(str(folder), f"{named[0]} of the embedded set, which stands in for {named[1]}")
    return [found, *check_splits(folder, splits), *_dense(folder, len(CLASSES))]


def _declared_sets(folder: Path) -> tuple[list[Any], list[Finding]]:
    """All shifted sets; none, and a warning, where torch and timm are not whole."""
    try:
        from micl_bench.robustness import every_set

        return list(every_set()), []
    except Exception as error:  # told elsewhere too
        found = f"shifted sets not checked: {reason(error)}"
        return [], [warning(str(folder), found, "mend torch")]


def _shifted_set(folder: Path, sets: list[Any]) -> list[Finding]:
    """Where the folder is called as a shifted set is, checked beside what lies around it."""
    place = folder.absolute()
    # Validation images with other labels are no folder of their own.
    for one in (one for one in sets if one.folder != one.clean.folder):
        for parts in (one.folder.parts[:1], one.folder.parts):
            if place.parts[-len(parts) :] == parts:
                return _checked(one, place.parents[len(parts) - 1])
    return []


def _shifted_sets(folder: Path, sets: list[Any]) -> dict[str, list[Finding]]:
    """Shifted sets below a data folder, by folder name, as `eval robustness` would check them."""
    findings: dict[str, list[Finding]] = {}
    for one in sets:
        place = folder / one.folder
        if place.is_dir() and one.folder != one.clean.folder and not _embedded_part(place):
            findings[one.folder.parts[0]] = _checked(one, folder)
    return findings


def _checked(one: Any, root: Path) -> list[Finding]:
    from micl_bench import robustness

    place = root / one.folder
    findings = robustness.inspect_set(one, root)
    partial = "; or measure what is there: eval robustness --set allow_partial=true"
    mend_missing = "" if findings.wrong else partial
    lines = [(text.rpartition("; "), "") for text in findings.wrong]
    lines += [(text.rpartition("; "), mend_missing) for text in findings.missing]
    found = [
        problem(str(place), what or rest, (rest if what else "unpack the release again") + more)
        for (what, _, rest), more in lines
    ] or [ok(str(place), f"{one.title}, whole")]
    there = [list_classes(root / part) for part in one.parts if (root / part).is_dir()]
    return [*found, *check_images(str(place), there)]
