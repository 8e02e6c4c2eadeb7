"""Image folders and ImageNet: sorted into classes, whole, named so that labels can be trusted."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from micl_bench.doctor._finding import Finding, ok, problem, warning
from micl_bench.doctor._names import first, subfolders
from micl_bench.image_files import list_classes, name_text

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
                f"{len(alone)} classes that train lacks: {first(alone)}",
                "use train and val of one release; classes are matched by folder name",
            )


def _check_split(inside: Path, split: str) -> Iterator[Finding]:
    if (inside / "store.json").is_file() or (inside / "journal.jsonl").is_file():
        yield check_store(inside)
    elif subfolders(inside):
        yield from check_classes(inside, split)
        yield from check_loose(inside)
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
            f"{loose:,} validation images that are not sorted into classes",
            f"put ILSVRC2012_devkit_t12.tar.gz into {root}, then: {_sort_command(root, folder)}",
        )
    elif archives:
        yield problem(
            str(folder),
            f"{archives:,} archives of single classes that are not unpacked",
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
    if left_out := str(listing.left_out):
        mend = "move what is meant as data into a class folder, under the suffix of an image"
        yield warning(subject, left_out, mend)
    others = sorted(name for name in counts if not WORDNET_ID.fullmatch(name))
    found = f"{images:,} images in {len(counts):,} classes"
    if empty := sorted(name for name, number in counts.items() if not number):
        mend = "unpack them again, or remove the folders"
        yield problem(subject, f"{len(empty)} class folders without an image: {first(empty)}", mend)
    if others and len(others) == len(counts):
        if len(counts) in _LIKE_IMAGENET:
            yield warning(
                subject,
                f"{found}, as ImageNet has, but folders are called {first(others)}: nothing tells "
                "in which order labels count, and a wrong order gives accuracies near 0.1 %",
                "name the folders by WordNet id (n01440764, ...); robustness sets need them",
            )
        else:
            yield ok(subject, found)
        return
    if others:
        mend = "move what does not belong there elsewhere"
        yield problem(subject, f"{len(others)} folders are no WordNet ids: {first(others)}", mend)
        return
    yield _imagenet(subject, split, counts, found)


def _imagenet(subject: str, split: str, counts: dict[str, int], found: str) -> Finding:
    images, expected = sum(counts.values()), _IMAGES.get(split)
    if len(counts) < _CLASSES:
        mend = "name the subset wherever its numbers are shown; whole, it has 1,000 classes"
        return warning(subject, f"{found}: a part of ImageNet", mend)
    per_class = expected // _CLASSES if expected and split == "val" else 0
    wrong = sorted(name for name, number in counts.items() if per_class and number != per_class)
    if expected and (images != expected or wrong):
        more = f"{expected - images:,} missing" if images < expected else "some in wrong folders"
        where = f", in {first(wrong)}" if wrong else ""
        mend = "unpack the archive again; a broken download has another MD5 than the release's"
        return problem(subject, f"{found}, {expected:,} expected: {more}{where}", mend)
    whole = f"ImageNet {split}, whole" if expected and len(counts) == _CLASSES else "by WordNet id"
    return ok(subject, f"{found}: {whole}")
