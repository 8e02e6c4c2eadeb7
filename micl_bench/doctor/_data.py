"""Data folders: what lies there, and whether a run would take it."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from micl_bench.data.embedded import DESCRIPTION_FILE, PARTS, embedded_name
from micl_bench.data.faults import first, reason
from micl_bench.data.image_files import Listing, list_classes, shown_name
from micl_bench.doctor._finding import Finding, ok, problem, warning
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.shipped import recipe_file
from micl_bench.runtime.wording import counted, plural

_WORDNET_ID = re.compile(r"n\d{8}")
_UNSORTED = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG|n\d{8}\.tar|ILSVRC2012_img_\w+\.tar")
_LEFT_OUT = (
    "names with a leading dot are never read and may stay; give what is meant as an image the suffix of "
    "its format, such as .jpg, and a place in a class folder"
)
_SHOWN = 3
# So many classes are ImageNet's under other names, not somebody's own data.
_LIKE_IMAGENET = range(900, 1101)
# Nothing of it is loaded.
_ANY_CHECKPOINT = "random:vit_small_patch16_224"


def check_data(folder: Path) -> list[Finding]:
    """What a data folder holds: ImageNet, shifted sets, ADE20K, COCO, the embedded set, packed stores.

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
        for child in _subfolders(folder) if not found else ():
            found += [] if child.name in shifted else _recognise(child)
        found += [finding for findings in shifted.values() for finding in findings]
        if not found and any(list_classes(folder).classes.values()):
            found = list(_check_classes(folder))
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
    """Whether `eval ade20k|coco` would take the folder with this config, by the checks that it makes.

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
    if store := _packed_store(folder):
        return [store]
    if dense := _dense(folder, ("ade20k_upernet_vit_b16", "coco_vitdet_vit_b16")):
        own = "for data of your own, --recipe CONFIG checks them against their config"
        return [
            dataclasses.replace(one, fix=f"{one.fix}; {own}") if one.fix else one for one in dense
        ]
    if splits := list(_check_splits(folder)):
        return splits
    if any(_WORDNET_ID.fullmatch(child.name) for child in _subfolders(folder)):
        return list(_check_classes(folder))
    return _unsorted(folder)


def _subfolders(folder: Path) -> list[Path]:
    """Folders in a folder but those with a leading dot, which nothing reads."""
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())


def _packed_store(folder: Path) -> Finding | None:
    if (folder / "store.json").is_file():
        return ok(folder, f"a packed store; its bytes: micl-bench data verify {folder}")
    if (folder / "journal.jsonl").is_file():
        fix = "give the same micl-bench data pack command again; it goes on where it was"
        return problem(folder, "a packed store that was not finished", fix)
    return None


def _dense(folder: Path, configs: tuple[str, str]) -> list[Finding]:
    """Where the folder is laid out as ADE20K or COCO: whether `eval` takes it; empty elsewhere."""
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
    """Where the folder is a part of the embedded set, or in one; empty elsewhere."""
    named = embedded_name(folder)
    if named is None:
        return []
    found = ok(folder, f"{named[0]} of the embedded set, which stands in for {named[1]}")
    dense = _dense(folder, ("embedded_upernet", "embedded_mask_rcnn"))
    return [found, *_check_splits(folder), *dense]


def _declared_sets(folder: Path) -> tuple[list[Any], list[Finding]]:
    """All shifted sets; none, and a warning, where torch and timm are not whole."""
    try:
        from micl_bench.robustness import every_set

        return [one for one in every_set() if one.folder != one.clean.folder], []
    except Exception as error:  # reported elsewhere too
        found = f"shifted sets are not checked: {reason(error)}"
        return [], [warning(folder, found, "fix torch")]


def _shifted_set(folder: Path, sets: list[Any]) -> list[Finding]:
    """Where the folder is called as a shifted set is, checked beside what lies around it."""
    place = folder.absolute()
    for one in sets:
        for parts in (one.folder.parts[:1], one.folder.parts):
            if place.parts[-len(parts) :] == parts:
                return _check_shifted(one, place.parents[len(parts) - 1])
    return []


def _shifted_sets(folder: Path, sets: list[Any]) -> dict[str, list[Finding]]:
    """Shifted sets below a data folder, by folder name, as `eval robustness` would check them."""
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
    return [*(found or [ok(place, f"{one.title}, whole")]), *_check_images(place, there)]


def _check_splits(folder: Path) -> Iterator[Finding]:
    """A folder with `train`, `val` or both: image folders or packed stores."""
    splits = [folder / split for split in ("train", "val") if (folder / split).is_dir()]
    for split in splits:
        if store := _packed_store(split):
            yield store
        elif _subfolders(split):
            yield from _check_classes(split)
        else:
            layout = "the layout is <folder>/<class>/<image>.jpg"
            yield from _unsorted(split) or [problem(split, "no class folders", layout)]
    if len(splits) == 2:
        train, val = ({child.name for child in _subfolders(split)} for split in splits)
        if train and (alone := sorted(val - train)):
            found = f"{counted(len(alone), 'class', 'classes')} that train lacks: {first(alone)}"
            fix = "use train and val of one release; classes are matched by folder name"
            yield problem(folder / "val", found, fix)


def _unsorted(folder: Path) -> list[Finding]:
    """ImageNet's images or archives, as they are downloaded; empty where there are none."""
    if not (names := [path.name for path in folder.iterdir() if _UNSORTED.fullmatch(path.name)]):
        return []
    root = folder.parent if folder.name in ("train", "val") else folder
    code = f"from torchvision.datasets import ImageNet; ImageNet('{root}', split='val')"
    return [
        problem(
            folder,
            f"{counted(len(names), 'file')} of ImageNet's, not sorted into classes: "
            f"{first(sorted(names))}",
            f"put ImageNet's archives and ILSVRC2012_devkit_t12.tar.gz into {root}, then: "
            f"python -c \"{code}\"; the same with 'train'",
        )
    ]


def _check_classes(folder: Path) -> Iterator[Finding]:
    """One folder of class folders; what `eval` refuses is a problem."""
    listing = list_classes(folder)
    for fault in listing.faults[:_SHOWN]:
        yield problem(folder, f"{fault.path} {fault.reason}", "replace or remove it")
    if more := len(listing.faults[_SHOWN:]):
        yield problem(folder, f"and {more:,} more like it", "replace or remove them")
    if listing.left_out:
        yield warning(folder, listing.left_out, _LEFT_OUT)
    if empty := sorted(name for name, images in listing.classes.items() if not images):
        found = f"{counted(len(empty), 'class folder')} without an image: {first(empty)}"
        yield problem(folder, found, "unpack the release again, or remove the folders")
    yield from _check_images(folder, [listing])
    yield _named(folder, listing)


def _named(folder: Path, listing: Listing) -> Finding:
    """How many images and classes there are, and what the names of the class folders say."""
    names = sorted(listing.classes)
    images = counted(sum(map(len, listing.classes.values())), "image")
    numbers = f"{images} in {counted(len(names), 'class', 'classes')}"
    others = [name for name in names if not _WORDNET_ID.fullmatch(name)]
    if others and len(others) < len(names):
        are = plural(len(others), "folder is no WordNet id", "folders are no WordNet ids")
        fix = "move what is no class elsewhere; each folder is read as a class"
        return warning(folder, f"{numbers}; {len(others):,} {are}: {first(others)}", fix)
    if others and len(names) in _LIKE_IMAGENET:
        return warning(
            folder,
            f"{numbers}, as ImageNet has, but folders are called {first(others)}: nothing tells "
            "in which order labels count, and a wrong order gives accuracies near 0.1 %",
            "name the folders by WordNet id (n01440764, ...); robustness sets need them",
        )
    return ok(folder, numbers)


def _check_images(folder: Path, listings: Sequence[Listing]) -> Iterator[Finding]:
    """Headers of the listed images, of many as many as `eval` opens, evenly spaced."""
    try:
        from micl_bench.data.checked import MOST_HEADERS, unreadable
        from micl_bench.data.headers import spread
    except ImportError as error:  # the packages' own finding names the fix
        yield warning(folder, f"images are not opened: {reason(error)}", "fix torch and Pillow")
        return
    known = {fault.path for listing in listings for fault in listing.faults}
    paths = [
        listing.root / name / image
        for listing in listings
        for name, images in listing.classes.items()
        for image in images
    ]
    looked_at = spread([path for path in paths if str(path) not in known], MOST_HEADERS)
    headers, problems = unreadable(looked_at)
    of = counted(len(looked_at), "image") + (" looked at" if len(looked_at) < len(paths) else "")
    if problems:
        texts = [text.rpartition("; ") for _, text in problems]
        found = "; ".join(text for text, _, _ in texts[:_SHOWN])
        more = f"; and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
        yield problem(folder, f"{len(texts):,} of {of} cannot be read: {found}{more}", texts[0][2])
    turned = [
        path for path, header in zip(looked_at, headers, strict=True) if header.orientation > 1
    ]
    if turned:
        are = plural(len(turned), "is", "are")
        yield warning(
            folder,
            f"{len(turned):,} of {of} {are} turned or mirrored by EXIF's orientation when they are "
            f"viewed ({shown_name(turned[0].name)}{', ...' if turned[1:] else ''}), and read as they "
            "are stored, as torchvision's ImageFolder does",
            "to have them read as they are viewed, turn the pixels themselves and drop the tag",
        )
