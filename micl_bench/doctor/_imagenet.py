"""Image folders and ImageNet: sorted into classes, readable, named so that labels can be trusted.

What `eval` refuses is a problem. That ImageNet's release has other numbers is a remark: sets of other
images have its classes too.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from micl_bench.data.image_files import LeftOut, list_classes, name_text
from micl_bench.doctor._finding import Finding, ok, problem, warning
from micl_bench.doctor._images import check_images
from micl_bench.doctor._names import first, subfolders
from micl_bench.runtime.wording import counted, plural

WORDNET_ID = re.compile(r"n\d{8}")
_VALIDATION_FILE = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG")
_CLASSES = 1000
_SHOWN_FAULTS = 5
_IMAGES = {"train": 1_281_167, "val": 50_000}  # ILSVRC 2012
# So many classes are ImageNet's under other names, not somebody's own data.
_LIKE_IMAGENET = range(900, 1101)


def check_store(folder: Path) -> Finding:
    """A packed store; its bytes are `data verify`'s business."""
    if not (folder / "store.json").is_file():
        mend = "give the same micl-bench data pack command again; it goes on where it was"
        return problem(str(folder), "a packed store that was not finished", mend)
    return ok(str(folder), f"a packed store; its bytes: micl-bench data verify {folder}")


def check_splits(folder: Path, splits: list[str]) -> Iterator[Finding]:
    """A folder with `train`, `val` or both: image folders or packed stores."""
    for split in splits:
        inside = folder / split
        yield from _check_split(inside, split)
    if len(splits) == 2:
        classes = [{child.name for child in subfolders(folder / split)} for split in splits]
        if all(classes) and (alone := sorted(classes[1] - classes[0])):
            yield problem(
                str(folder / "val"),
                f"{counted(len(alone), 'class', 'classes')} that train lacks: {first(alone)}",
                "use train and val of one release; classes are matched by folder name",
            )


def _check_split(inside: Path, split: str) -> Iterator[Finding]:
    if (inside / "store.json").is_file() or (inside / "journal.jsonl").is_file():
        yield check_store(inside)
    elif subfolders(inside):
        yield from check_classes(inside, split)
        # `eval` reads the classes that are there, and says what it leaves out.
        for loose in check_loose(inside):
            yield warning(loose.subject, loose.found, loose.mend)
    else:
        flat = list(check_loose(inside))
        yield from flat or [
            problem(str(inside), "no class folders", "the layout is <folder>/<class>/<image>.jpg")
        ]


def check_loose(folder: Path) -> Iterator[Finding]:
    """Images that were never sorted into classes, or archives that were never unpacked."""
    names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    loose = sum(bool(_VALIDATION_FILE.fullmatch(name)) for name in names)
    archives = sum(bool(re.fullmatch(r"n\d{8}\.tar", name)) for name in names)
    root = folder.parent if folder.name in _IMAGES else folder
    if loose:
        yield problem(
            str(folder),
            f"{counted(loose, 'validation image')} not sorted into classes",
            f"put ILSVRC2012_devkit_t12.tar.gz into {root}, then: {_sort_command(root, folder)}",
        )
    elif archives:
        yield problem(
            str(folder),
            f"{counted(archives, 'archive')} of single classes, not unpacked",
            f"cd {folder} && for f in n*.tar; do mkdir ${{f%.tar}} && tar xf $f -C ${{f%.tar}} && "
            "rm $f; done",
        )
    elif any(name.startswith("ILSVRC2012_img_") and name.endswith(".tar") for name in names):
        yield problem(
            str(folder),
            "ImageNet's archives, not unpacked",
            f"{_torchvision_command(folder, 'train')}; the same with 'val'; both need "
            "ILSVRC2012_devkit_t12.tar.gz beside them",
        )


def _torchvision_command(root: Path, split: str) -> str:
    """torchvision sorts by the development kit's ground truth, and checks the archives' digests."""
    code = f"from torchvision.datasets import ImageNet; ImageNet('{root}', split='{split}')"
    return f'python -c "{code}"'


def _sort_command(root: Path, folder: Path) -> str:
    """Sorts loose validation images by their numbers, by the same ground truth."""
    read = "from torchvision.datasets import imagenet as i"
    sort = (
        f"{read}; from pathlib import Path; v = Path('{folder}'); w = i.load_meta_file('{root}')[1]; "
        "[((d := v / w[int(f.stem[-8:]) - 1]).mkdir(exist_ok=True), f.rename(d / f.name)) "
        "for f in list(v.glob('ILSVRC2012_val_*.JPEG'))]"
    )
    return f'python -c "{read}; i.parse_devkit_archive(\'{root}\')" && python -c "{sort}"'


def check_classes(folder: Path, split: str) -> Iterator[Finding]:
    """One folder of class folders."""
    listing, subject = list_classes(folder), str(folder)
    counts = {name_text(name): len(images) for name, images in listing.classes.items()}
    images = sum(counts.values())
    for fault in listing.faults[:_SHOWN_FAULTS]:
        yield problem(subject, f"{fault.path} {fault.reason}", "replace or remove it")
    if more := len(listing.faults[_SHOWN_FAULTS:]):
        yield problem(subject, f"and {more:,} more like it", "replace or remove them")
    if left_out := str(listing.left_out):
        yield warning(subject, left_out, _mend_left_out(listing.left_out))
    found = f"{counted(images, 'image')} in {counted(len(counts), 'class', 'classes')}"
    if empty := sorted(name for name, number in counts.items() if not number):
        folders = counted(len(empty), "class folder")
        mend = f"unpack {plural(len(empty), 'it', 'them')} again, or remove the folders"
        yield problem(subject, f"{folders} without an image: {first(empty)}", mend)
    yield from check_images(subject, [listing])
    yield _named(subject, split, counts, found)


def _mend_left_out(left_out: LeftOut) -> str:
    """What to do about each kind of what is not read."""
    advice = []
    if left_out.hidden.number:
        advice.append("names with a leading dot are never read and may stay")
    if left_out.others:
        advice.append(
            "give what is meant as an image the suffix of its format, such as .jpg or .png"
        )
    if left_out.loose.number:
        advice.append("move images that are meant as data into class folders")
    return "; ".join(advice)


def _named(subject: str, split: str, counts: dict[str, int], found: str) -> Finding:
    """What the names of the class folders tell."""
    others = sorted(name for name in counts if not WORDNET_ID.fullmatch(name))
    if not others:
        return _imagenet(subject, split, counts, found)
    if len(others) < len(counts):
        are = plural(len(others), "folder is no WordNet id", "folders are no WordNet ids")
        mend = "move what is no class elsewhere; each folder is read as a class"
        return warning(subject, f"{found}; {len(others):,} {are}: {first(others)}", mend)
    if len(counts) in _LIKE_IMAGENET:
        return warning(
            subject,
            f"{found}, as ImageNet has, but folders are called {first(others)}: nothing tells "
            "in which order labels count, and a wrong order gives accuracies near 0.1 %",
            "name the folders by WordNet id (n01440764, ...); robustness sets need them",
        )
    return ok(subject, found)


def _imagenet(subject: str, split: str, counts: dict[str, int], found: str) -> Finding:
    images, expected = sum(counts.values()), _IMAGES.get(split)
    if len(counts) < _CLASSES:
        mend = "name the subset wherever its numbers are shown; whole, it has 1,000 classes"
        return warning(subject, f"{found}: a part of ImageNet", mend)
    whole = f"ImageNet {split}, whole" if expected and len(counts) == _CLASSES else "by WordNet id"
    per_class = expected // _CLASSES if expected and split == "val" else 0
    wrong = sorted(name for name, number in counts.items() if per_class and number != per_class)
    if not expected or (images == expected and not wrong):
        return ok(subject, f"{found}: {whole}")
    if images == expected:
        differs = f"{per_class} per class expected, others in {first(wrong)}"
    else:
        where = f", in {first(wrong)}" if wrong else ""
        more = "missing" if images < expected else "more"
        differs = f"{expected:,} expected, {abs(expected - images):,} {more}{where}"
    return warning(
        subject,
        f"{found}; not ImageNet as released: {differs}",
        "of ImageNet, unpack the archive again (a broken download has another MD5 than the release's); "
        "another set of its classes may stay as it is",
    )
