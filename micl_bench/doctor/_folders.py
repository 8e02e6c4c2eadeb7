"""Data folders: what lies there, and whether it is whole. Names are read, no image."""

from collections.abc import Iterator
from pathlib import Path

from micl_bench.doctor._finding import Finding, ok, problem, reason, warning
from micl_bench.doctor._imagenet import (
    WORDNET_ID,
    check_classes,
    check_loose,
    check_splits,
    check_store,
)
from micl_bench.doctor._names import count_images, subfolders

_ADE20K = {"training": 20_210, "validation": 2_000}
_COCO = {"train2017": 118_287, "val2017": 5_000}


def check_data(folder: Path) -> list[Finding]:
    """What a data folder holds: ImageNet, shifted sets, ADE20K, COCO, the embedded set, packed stores.

    A folder of such folders is looked into, one level deep.
    """
    if not folder.is_dir():
        return [problem(str(folder), "no such folder", "give the folder that holds the data")]
    try:
        shifted = _shifted_sets(folder)
        found = _recognise(folder)
        for child in subfolders(folder) if not found else ():
            found += [] if child.name in shifted else _recognise(child)
        found += [finding for findings in shifted.values() for finding in findings]
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
    from micl_bench.data.embedded.parts import DESCRIPTION_FILE, PARTS

    if (folder / DESCRIPTION_FILE).is_file() and (folder / "embedded").is_dir():
        return [_embedded(folder, list(PARTS))]
    if (folder / "store.json").is_file() or (folder / "journal.jsonl").is_file():
        return [check_store(folder)]
    if any((folder / "images" / split).is_dir() for split in _ADE20K):
        return list(_ade20k(folder))
    if any((folder / split).is_dir() for split in _COCO):
        return list(_coco(folder))
    splits = [split for split in ("train", "val") if (folder / split).is_dir()]
    if splits:
        return list(check_splits(folder, splits))
    if any(WORDNET_ID.fullmatch(child.name) for child in subfolders(folder)):
        return list(check_classes(folder, ""))
    return list(check_loose(folder))


def _embedded(folder: Path, parts: list[str]) -> Finding:
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        mend = f"remove {folder} and make it again: micl-bench data embedded --out {folder}"
        return problem(str(folder), f"the embedded set without {', '.join(missing)}", mend)
    return ok(str(folder), f"the embedded set: {', '.join(parts)}")


def _ade20k(folder: Path) -> Iterator[Finding]:
    for split, expected in _ADE20K.items():
        images = count_images(folder / "images" / split)
        masks = count_images(folder / "annotations" / split)
        yield _counted(f"{folder} ({split})", "ADE20K", images, expected, masks)


def _coco(folder: Path) -> Iterator[Finding]:
    for split, expected in _COCO.items():
        finding = _counted(
            f"{folder} ({split})", "COCO", count_images(folder / split), expected, None
        )
        file = folder / "annotations" / f"instances_{split}.json"
        if not file.is_file():
            mend = "unpack annotations_trainval2017.zip there"
            yield problem(f"{folder} ({split})", f"there is no {file}", mend)
        else:
            yield finding


def _counted(subject: str, name: str, images: int, expected: int, masks: int | None) -> Finding:
    found = f"{name}: {images:,} images" + ("" if masks is None else f", {masks:,} annotations")
    if images == expected and masks in (None, expected):
        return ok(subject, found)
    mend = "unpack the release again; numbers on a part compare with nothing published"
    return problem(subject, f"{found}; {expected:,} expected", mend)


def _shifted_sets(folder: Path) -> dict[str, list[Finding]]:
    """Shifted sets below a data folder, by folder name, as `eval robustness` would check them."""
    try:
        from micl_bench import plugins, robustness

        sets = [plugins.find("robustness", name).SET for name in plugins.names("robustness")]
    except Exception as error:  # without a whole torch and timm; told elsewhere
        return {
            "": [warning(str(folder), f"shifted sets not checked: {reason(error)}", "mend torch")]
        }
    findings: dict[str, list[Finding]] = {}
    for one in sets:
        place = folder / one.folder
        # Validation images with other labels are no folder of their own.
        if place.is_dir() and one.folder != one.clean.folder and not _is_embedded(place):
            wrong = [text.rpartition("; ") for text in robustness.check(one, folder)]
            findings[one.folder.parts[0]] = [
                problem(str(place), found or rest, rest if found else "unpack the release again")
                for found, _, rest in wrong
            ] or [ok(str(place), f"{one.title}, whole")]
    return findings


def _is_embedded(place: Path) -> bool:
    from micl_bench.data.embedded.parts import embedded_name

    return embedded_name(place) is not None
