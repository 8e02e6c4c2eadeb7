"""Checks of data folders: which data sets lie there, and whether a run would take them."""

import dataclasses
from pathlib import Path
from typing import Any

from micl_bench.data.embedded import DESCRIPTION_FILE, PARTS, embedded_name
from micl_bench.data.faults import reason
from micl_bench.data.image_files import list_classes
from micl_bench.doctor._finding import Finding, ok, problem, warning
from micl_bench.doctor._images import (
    WORDNET_ID,
    check_classes,
    check_images,
    check_splits,
    packed_store,
    subfolders,
    unsorted,
)
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.shipped import recipe_file

# Nothing of it is loaded.
_ANY_CHECKPOINT = "random:vit_small_patch16_224"


def check_data(folder: Path) -> list[Finding]:
    """Check a data folder: ImageNet, shifted sets, ADE20K, COCO, the embedded set, packed stores.

    A folder of such folders is looked into, one level deep. A shifted set, or a part of the embedded
    set, that is given itself is known by its name and by what lies beside it.
    """
    if not folder.is_dir():
        return [problem(folder, "no such folder", "give the folder that holds the data")]
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
        return [problem(folder, reason(error), "make it readable, or give another folder")]
    return found or [
        problem(
            folder,
            "neither ImageNet, ADE20K, COCO, an image folder nor a packed store",
            "the layout is <folder>/train/<class>/<image>.jpg and <folder>/val/<class>/<image>.jpg",
        )
    ]


def check_for_recipe(folder: Path, recipe: Path) -> list[Finding]:
    """Check a data folder as `eval ade20k|coco` would with this config.

    Both splits are read whole, validation images are decoded.
    """
    try:
        from micl_bench.openmmlab.configs import resolve
        from micl_bench.openmmlab.data_checks import check
        from micl_bench.openmmlab.isolation import blaming
    except (ImportError, InputError) as error:
        fix = "pip install 'micl-bench[openmmlab]'"
        return [warning(folder, f"segmentation and detection are not checked: {error}", fix)]
    try:
        with blaming(recipe.name, "cannot be used"):
            config = resolve(
                recipe, checkpoint=_ANY_CHECKPOINT, data=folder, seed=None, overrides=()
            )
            found = check(config)
    except (InputError, OSError) as error:
        return [problem(folder, str(error), "give a folder and a config that fit each other")]
    findings = [
        (problem if fault.fatal else warning)(folder, fault.found, fault.fix)
        for fault in found.faults
    ]
    fix = "give them the names that the config reads, or remove them"
    findings += [warning(folder, line, fix) for line in found.left_out.values()]
    if not found.failed:
        truth = ", ".join(f"{name} {value:g}" for name, value in found.truth.items())
        sizes = " and ".join(f"{number:,}" for number in found.images.values())
        text = f"fits {recipe}: {sizes} images to train on and measure; its truth has {truth}"
        findings.insert(0, ok(folder, text))
    return findings


def _recognise(folder: Path) -> list[Finding]:
    if (folder / DESCRIPTION_FILE).is_file() and (folder / "embedded").is_dir():
        if missing := [part for part in PARTS if not (folder / part).is_dir()]:
            fix = f"remove {folder} and make it again: micl-bench data embedded --out {folder}"
            return [problem(folder, f"the embedded set without {', '.join(missing)}", fix)]
        return [ok(folder, f"the embedded set: {', '.join(PARTS)}")]
    if store := packed_store(folder):
        return [store]
    if dense := _dense(folder, ("ade20k_upernet_vit_b16", "coco_vitdet_vit_b16")):
        own = "for data of your own, --recipe CONFIG checks them against their config"
        return [
            dataclasses.replace(one, fix=f"{one.fix}; {own}") if one.fix else one for one in dense
        ]
    if splits := list(check_splits(folder)):
        return splits
    if any(WORDNET_ID.fullmatch(child.name) for child in subfolders(folder)):
        return list(check_classes(folder))
    return unsorted(folder)


def _dense(folder: Path, configs: tuple[str, str]) -> list[Finding]:
    """Check a folder in ADE20K's or COCO's layout as `eval` would; empty for other folders."""
    if (folder / "images" / "ADE").is_dir():
        found = "the full release of ADE20K, with thousands of classes; the benchmark has 150"
        return [problem(folder, found, "unpack ADEChallengeData2016.zip, and give that")]
    segmentation = [folder / "images" / split for split in ("training", "validation")]
    detection = [folder / split for split in ("train2017", "val2017")]
    for places, config in zip((segmentation, detection), configs, strict=True):
        if any(place.is_dir() for place in places):
            return check_for_recipe(folder, recipe_file(config))
    return []


def _embedded_part(folder: Path) -> list[Finding]:
    """Check a folder of the embedded set, or inside of one; empty for other folders."""
    named = embedded_name(folder)
    if named is None:
        return []
    found = ok(folder, f"{named[0]} of the embedded set, which stands in for {named[1]}")
    dense = _dense(folder, ("embedded_upernet", "embedded_mask_rcnn"))
    return [found, *check_splits(folder), *dense]


def _declared_sets(folder: Path) -> tuple[list[Any], list[Finding]]:
    """Return all shifted sets; none, and a warning, where torch or timm is broken."""
    try:
        from micl_bench.robustness import every_set

        return [one for one in every_set() if one.folder != one.clean.folder], []
    except Exception as error:  # reported elsewhere too
        found = f"shifted sets are not checked: {reason(error)}"
        return [], [warning(folder, found, "fix torch")]


def _shifted_set(folder: Path, sets: list[Any]) -> list[Finding]:
    """Check a folder with the name of a shifted set, beside the folders around it; empty for others."""
    place = folder.absolute()
    for one in sets:
        for parts in (one.folder.parts[:1], one.folder.parts):
            if place.parts[-len(parts) :] == parts:
                return _check_shifted(one, place.parents[len(parts) - 1])
    return []


def _shifted_sets(folder: Path, sets: list[Any]) -> dict[str, list[Finding]]:
    """Check the shifted sets below a data folder, by folder name, as `eval robustness` would."""
    return {
        one.folder.parts[0]: _check_shifted(one, folder)
        for one in sets
        if (folder / one.folder).is_dir() and not _embedded_part(folder / one.folder)
    }


def _check_shifted(one: Any, root: Path) -> list[Finding]:
    from micl_bench.robustness import inspect_set

    place = root / one.folder
    findings = inspect_set(one, root)
    partial = "; or measure what is there: eval robustness --set allow_partial=true"
    lines = [(text, "") for text in findings.wrong]
    lines += [(text, "" if findings.wrong else partial) for text in findings.missing]
    found = []
    for text, more in lines:
        what, _, fix = text.rpartition("; ")
        found.append(
            problem(place, what or fix, (fix if what else "unpack the release again") + more)
        )
    there = [list_classes(root / part) for part in one.parts if (root / part).is_dir()]
    return [*(found or [ok(place, f"{one.title}, whole")]), *check_images(place, there)]
