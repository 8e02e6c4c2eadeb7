"""Whether a copy of a set is the set: classes and numbers of images, before anything is measured."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from micl_bench.data.image_files import class_folders, list_classes, name_text, shown_name
from micl_bench.robustness._labels import image_number, right_answers
from micl_bench.robustness._set import RobustnessSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import counted, plural

_SHOWN = 3


@dataclasses.dataclass
class Findings:
    """What is to be mended: a line each."""

    wrong: list[str] = dataclasses.field(default_factory=list)
    """The set is not there, or its labels would be wrong."""
    missing: list[str] = dataclasses.field(default_factory=list)
    """The set is there in part."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Expected:
    """What a folder of class folders should hold."""

    folder: Path
    title: str
    classes: tuple[str, ...]
    images: int | None
    per_class: int | None
    has_others: bool = False
    """Whether the release has class folders beyond `classes`."""


def inspect_set(one: RobustnessSet, root: Path) -> Findings:
    """What is wrong with a set and its clean set below the data folder `root`.

    Reads names only, no image.
    """
    findings = Findings()
    try:
        _inspect_all(findings, one, root)
    except InputError as error:
        # What cannot be listed.
        findings.wrong.append(str(error))
    return findings


def _inspect_all(findings: Findings, one: RobustnessSet, root: Path) -> None:
    absent = [str(root / part) for part in one.parts if not (root / part).is_dir()]
    if absent:
        number = f" ({len(absent)} of its {len(one.parts)} folders)" if one.corruptions else ""
        findings.wrong.append(
            f"{one.title}: there is no {_first(absent)}{number}; "
            f"{_mend(one, root / one.folder.parts[0])}"
        )
    else:
        _inspect_parts(findings, one, root)
    if one.folder != one.clean.folder:
        _inspect_clean(findings, one, root)


def _inspect_parts(findings: Findings, one: RobustnessSet, root: Path) -> None:
    try:
        classes = tuple(right_answers(one, root))
    except InputError as error:
        findings.wrong.append(str(error))
        return
    if one.num_classes not in (None, len(classes)):
        findings.wrong.append(
            f"the mappings of {one.title} name "
            f"{counted(len(classes), 'class', 'classes')}, not {one.num_classes}; unpack "
            "the release anew"
        )
    incomplete = 0
    for part in one.parts:
        expected = _Expected(
            folder=root / part,
            title=one.title,
            classes=classes,
            images=one.images,
            per_class=one.per_class,
            has_others=one.labels == "mappings",
        )
        found = Findings()
        _inspect(found, expected)
        findings.wrong += found.wrong
        # 75 parts that lack the same are told of once.
        if found.missing:
            findings.missing += found.missing if incomplete == 0 else []
            incomplete += 1
    if incomplete > 1:
        findings.missing.append(
            f"{one.title}: {incomplete - 1} more of its folders "
            f"{plural(incomplete - 1, 'lacks', 'lack')} images"
        )
    if one.labels == "image numbers":
        _inspect_numbers(findings, root / one.folder, one.title)


def _inspect_clean(findings: Findings, one: RobustnessSet, root: Path) -> None:
    clean, folder = one.clean, root / one.clean.folder
    if not folder.is_dir():
        findings.wrong.append(
            f"there is no {folder}, the clean images that {one.title} is held against; "
            f"{_mend(one, root / clean.folder.parts[0])}"
        )
        return
    there = class_folders(folder)
    expected = _Expected(
        folder=folder,
        title=str(clean.folder),
        classes=clean.classes or there,
        images=clean.images,
        per_class=clean.per_class,
    )
    _inspect(findings, expected)
    if not clean.classes:
        alien = sorted(set(class_folders(root / one.folder)) - set(there))
        if alien:
            findings.wrong.append(f"{one.title} has classes that {folder} lacks: {_first(alien)}")


def _inspect(findings: Findings, expected: _Expected) -> None:
    folder, found = expected.folder, set(class_folders(expected.folder))
    others = sorted(found - set(expected.classes))
    if not found:
        findings.wrong.append(
            f"{folder} has no class folders; the layout is <folder>/<class>/<image>"
        )
    elif numbers := [name for name in others if name.isdigit()]:
        findings.wrong.append(
            f"{folder} has class folders named by numbers ({_first(numbers)}): nothing tells what they "
            "count, and labels by position give an accuracy near 0.1 %; name them by WordNet id "
            "(n01440764, ...)"
        )
    elif others and not expected.has_others:
        findings.wrong.append(
            f"{folder} has {counted(len(others), 'class folder')} not of {expected.title}: "
            f"{_first(others)}; remove {plural(len(others), 'it', 'them')}, or unpack the release anew"
        )
    else:
        _inspect_counts(findings, expected)


def _inspect_counts(findings: Findings, expected: _Expected) -> None:
    folder, counts = expected.folder, count_images(expected.folder, expected.classes)
    lacking = [name for name in expected.classes if name not in counts]
    if lacking:
        findings.missing.append(
            f"{folder} lacks {len(lacking)} of {len(expected.classes)} class folders: "
            f"{_first(lacking)}; unpack the release anew"
        )
    per_class, total = expected.per_class, sum(counts.values())
    if per_class:
        off = [f"{name} has {n} of {per_class}" for name, n in counts.items() if n != per_class]
    else:
        off = [f"{name} has none" for name, n in counts.items() if n == 0]
    if off or expected.images not in (None, total):
        of = f" of {expected.images:,}" if expected.images else ""
        where = f", {_first(off)}" if off else ""
        line = f"{folder} holds {total:,}{of} images{where}; unpack the release anew"
        # Nothing is missing from the whole, or a class has too many: images lie in the wrong folder.
        misplaced = expected.images is not None and total >= expected.images
        misplaced |= per_class is not None and max(counts.values(), default=0) > per_class
        (findings.wrong if misplaced else findings.missing).append(line)


def _inspect_numbers(findings: Findings, folder: Path, title: str) -> None:
    strange = [
        f"{name}/{image}"
        for name, images in list_classes(folder).classes.items()
        for image in images
        if not image_number(image)
    ]
    if strange:
        findings.wrong.append(
            f"{title} tells images by their number, and {len(strange)} in {folder} are not called "
            f"ILSVRC2012_val_<number>: {_first(strange)}; restore their names"
        )


def _mend(one: RobustnessSet, top: Path) -> str:
    if one.images is None:
        return f"`micl-bench data embedded --out {top.parent}` writes it"
    return f"unpack the release there, or link to it: ln -s WHERE_IT_IS {top}"


def count_images(folder: Path, classes: tuple[str, ...]) -> dict[str, int]:
    """Images of each of the classes that are there.

    Raises:
        InputError: what cannot be listed.
    """
    found = list_classes(folder, set(classes))
    found.require_whole()
    counts = {name_text(name): len(images) for name, images in found.classes.items()}
    return {name: counts[name] for name in classes if name in counts}


def _first(names: Iterable[str]) -> str:
    names = sorted(names)
    rest = len(names) - _SHOWN
    return ", ".join(map(shown_name, names[:_SHOWN])) + (f" and {rest} more" if rest > 0 else "")
