"""Checks of a copy of a set, before anything is measured: its classes and numbers of images."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from micl_bench.data.image_files import class_folders, list_classes, name_text, shown_names
from micl_bench.robustness._labels import image_number, right_answers
from micl_bench.robustness._set import CleanSet, RobustnessSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import counted, plural


@dataclasses.dataclass
class Findings:
    """Faults, one line each."""

    wrong: list[str] = dataclasses.field(default_factory=list)
    """The set is not there, or its labels would be wrong."""
    missing: list[str] = dataclasses.field(default_factory=list)
    """The set is there in part."""


def inspect_set(one: RobustnessSet, root: Path) -> Findings:
    """Return the faults of a set and its clean set below the data folder `root`.

    It reads names only, no image.
    """
    findings = Findings()
    for inspect in (_inspect_set, _inspect_clean):
        try:
            inspect(findings, one, root)
        except InputError as error:
            # A folder cannot be listed, or ObjectNet's mappings cannot be read.
            findings.wrong.append(str(error))
    return findings


def _inspect_set(findings: Findings, one: RobustnessSet, root: Path) -> None:
    if absent := [str(root / part) for part in one.parts if not (root / part).is_dir()]:
        number = f" ({len(absent)} of its {len(one.parts)} folders)" if one.corruptions else ""
        fix = _fix(one, root / one.folder.parts[0])
        findings.wrong.append(f"{one.title}: there is no {_first(absent)}{number}; {fix}")
        return
    classes = tuple(right_answers(one, root))
    if one.num_classes not in (None, len(classes)):
        findings.wrong.append(
            f"the mappings of {one.title} name "
            f"{counted(len(classes), 'class', 'classes')}, not {one.num_classes}; unpack "
            "the release anew"
        )
    incomplete = 0
    for part in one.parts:
        found = _inspect(root / part, one.title, one, classes, others=one.labels == "mappings")
        findings.wrong += found.wrong
        # 75 parts with the same fault are reported once.
        findings.missing += [] if incomplete else found.missing
        incomplete += bool(found.missing)
    if incomplete > 1:
        findings.missing.append(
            f"{one.title}: {incomplete - 1} more of its folders "
            f"{plural(incomplete - 1, 'lacks', 'lack')} images"
        )
    if one.labels == "image numbers":
        folder = root / one.folder
        images = [
            f"{name}/{image}"
            for name, images in list_classes(folder).classes.items()
            for image in images
        ]
        if strange := [image for image in images if not image_number(image)]:
            findings.wrong.append(
                f"{one.title} knows images by their number, and {len(strange)} in {folder} are not "
                f"called ILSVRC2012_val_<number>: {_first(strange)}; restore their names"
            )


def _inspect_clean(findings: Findings, one: RobustnessSet, root: Path) -> None:
    clean, folder = one.clean, root / one.clean.folder
    if one.folder == clean.folder:
        return
    if not folder.is_dir():
        findings.wrong.append(
            f"there is no {folder}, the clean images that {one.title} is held against; "
            f"{_fix(one, root / clean.folder.parts[0])}"
        )
        return
    there = class_folders(folder)
    found = _inspect(folder, str(clean.folder), clean, clean.classes or there)
    findings.wrong += found.wrong
    findings.missing += found.missing
    own = () if clean.classes else class_folders(root / one.folder)
    if alien := sorted(set(own) - set(there)):
        findings.wrong.append(f"{one.title} has classes that {folder} lacks: {_first(alien)}")


def _inspect(
    folder: Path,
    title: str,
    released: RobustnessSet | CleanSet,
    classes: tuple[str, ...],
    *,
    others: bool = False,
) -> Findings:
    """Return the faults of a folder of class folders.

    Args:
        others: the release has class folders beyond `classes`.
    """
    found = set(class_folders(folder))
    strange = sorted(found - set(classes))
    if not found:
        line = f"{folder} has no class folders; the layout is <folder>/<class>/<image>"
    elif numbers := [name for name in strange if name.isdigit()]:
        line = (
            f"{folder} has class folders named by numbers ({_first(numbers)}): nobody knows what they "
            "count, and labels by position give an accuracy near 0.1 %; name them by WordNet id "
            "(n01440764, ...)"
        )
    elif strange and not others:
        line = (
            f"{folder} has {counted(len(strange), 'class folder')} not of {title}: {_first(strange)}; "
            f"remove {plural(len(strange), 'it', 'them')}, or unpack the release anew"
        )
    else:
        return _inspect_counts(folder, released, classes)
    return Findings(wrong=[line])


def _inspect_counts(
    folder: Path, released: RobustnessSet | CleanSet, classes: tuple[str, ...]
) -> Findings:
    findings, counts = Findings(), _count_images(folder, classes)
    if lacking := [name for name in classes if name not in counts]:
        findings.missing.append(
            f"{folder} lacks {len(lacking)} of {len(classes)} class folders: {_first(lacking)}; unpack "
            "the release anew"
        )
    per_class, images, total = released.per_class, released.images, sum(counts.values())
    if per_class:
        off = [f"{name} has {n} of {per_class}" for name, n in counts.items() if n != per_class]
    else:
        off = [f"{name} has none" for name, n in counts.items() if n == 0]
    if off or images not in (None, total):
        of = f" of {images:,}" if images else ""
        where = f", {_first(off)}" if off else ""
        line = f"{folder} holds {total:,}{of} images{where}; unpack the release anew"
        # Nothing is missing from the whole, or a class has too many: images lie in the wrong folder.
        misplaced = images is not None and total >= images
        misplaced |= per_class is not None and max(counts.values(), default=0) > per_class
        (findings.wrong if misplaced else findings.missing).append(line)
    return findings


def _count_images(folder: Path, classes: tuple[str, ...]) -> dict[str, int]:
    """Count the images of each of the classes that are there."""
    found = list_classes(folder, set(classes))
    found.require_whole()
    counts = {name_text(name): len(images) for name, images in found.classes.items()}
    return {name: counts[name] for name in classes if name in counts}


def _fix(one: RobustnessSet, top: Path) -> str:
    if one.images is None:
        return f"`micl-bench data embedded --out {top.parent}` writes it"
    return f"unpack the release there, or link to it: ln -s WHERE_IT_IS {top}"


def _first(names: Iterable[str]) -> str:
    return shown_names(sorted(names))
