"""Data folders: what lies there, and whether a run would take it."""

import dataclasses
from pathlib import Path
from typing import Any

from micl_bench.data.faults import reason
from micl_bench.data.image_files import list_classes
from micl_bench.doctor._finding import Finding, ok, problem, warning
from micl_bench.doctor._image_folders import (
    WORDNET_ID,
    check_classes,
    check_images,
    check_splits,
    check_store,
    check_unsorted,
    subfolders,
)
from micl_bench.doctor._recipe import check_for_recipe
from micl_bench.runtime.shipped import recipe_file


def check_data(folder: Path) -> list[Finding]:
    """What a data folder holds: ImageNet, shifted sets, ADE20K, COCO, the embedded set, packed stores.

    A folder of such folders is looked into, one level deep. A shifted set, or a part of the embedded
    set, that is given itself is known by its name and by what lies beside it.
    """
    if not folder.is_dir():
        return [problem(str(folder), "no such folder", "give the folder that holds the data")]
    try:
        sets, unchecked = _declared_sets(folder)
        if itself := _embedded_part(folder) or _shifted_set(folder, sets):
            return itself
        shifted = _shifted_sets(folder, sets)
        found = _recognise(folder)
        for child in subfolders(folder) if not found else ():
            found += [] if child.name in shifted else _recognise(child)
        found += [finding for findings in shifted.values() for finding in findings]
        if not found and any(list_classes(folder).classes.values()):
            found = list(check_classes(folder))
        found += unchecked
    except OSError as error:
        return [problem(str(folder), reason(error), "make it readable, or give another folder")]
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
    if store := check_store(folder):
        return [store]
    if dense := _dense(folder, ("ade20k_upernet_vit_b16", "coco_vitdet_vit_b16")):
        own = "for data of your own, --recipe CONFIG checks them against their config"
        return [
            dataclasses.replace(one, fix=f"{one.fix}; {own}") if one.fix else one for one in dense
        ]
    if splits := _splits(folder):
        return list(check_splits(folder, splits))
    if any(WORDNET_ID.fullmatch(child.name) for child in subfolders(folder)):
        return list(check_classes(folder))
    unsorted = check_unsorted(folder)
    return [unsorted] if unsorted else []


def _splits(folder: Path) -> list[str]:
    return [split for split in ("train", "val") if (folder / split).is_dir()]


def _embedded(folder: Path, parts: list[str]) -> Finding:
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        fix = f"remove {folder} and make it again: micl-bench data embedded --out {folder}"
        return problem(str(folder), f"the embedded set without {', '.join(missing)}", fix)
    return ok(str(folder), f"the embedded set: {', '.join(parts)}")


def _dense(folder: Path, configs: tuple[str, str]) -> list[Finding]:
    """Where the folder is laid out as ADE20K or COCO: whether `eval` takes it; empty elsewhere."""
    if (folder / "images" / "ADE").is_dir():
        found = "the full release of ADE20K, with thousands of classes; the benchmark has 150"
        return [problem(str(folder), found, "unpack ADEChallengeData2016.zip, and give that")]
    segmentation = [folder / "images" / split for split in ("training", "validation")]
    detection = [folder / split for split in ("train2017", "val2017")]
    for places, config in zip((segmentation, detection), configs, strict=True):
        if any(place.is_dir() for place in places):
            return check_for_recipe(folder, recipe_file(config))
    return []


def _embedded_part(folder: Path) -> list[Finding]:
    """Where the folder is a part of the embedded set, or in one; empty elsewhere."""
    from micl_bench.data.embedded.manifest import embedded_name

    named = embedded_name(folder)
    if named is None:
        return []
    found = ok(str(folder), f"{named[0]} of the embedded set, which stands in for {named[1]}")
    dense = _dense(folder, ("embedded_upernet", "embedded_mask_rcnn"))
    return [found, *check_splits(folder, _splits(folder)), *dense]


def _declared_sets(folder: Path) -> tuple[list[Any], list[Finding]]:
    """All shifted sets; none, and a warning, where torch and timm are not whole."""
    try:
        from micl_bench.robustness import every_set

        return every_set(), []
    except Exception as error:  # reported elsewhere too
        found = f"shifted sets are not checked: {reason(error)}"
        return [], [warning(str(folder), found, "fix torch")]


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
    missing = "" if findings.wrong else partial
    lines = [(text.rpartition("; "), "") for text in findings.wrong]
    lines += [(text.rpartition("; "), missing) for text in findings.missing]
    found = [
        problem(str(place), what or rest, (rest if what else "unpack the release again") + more)
        for (what, _, rest), more in lines
    ] or [ok(str(place), f"{one.title}, whole")]
    there = [list_classes(root / part) for part in one.parts if (root / part).is_dir()]
    return [*found, *check_images(str(place), there)]
