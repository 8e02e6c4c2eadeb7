"""Checks of image folders and packed stores: classes, names, and the headers of images."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from micl_bench.data.faults import first, reason
from micl_bench.data.image_files import Listing, list_classes, shown_name
from micl_bench.doctor._finding import Finding, ok, problem, warning
from micl_bench.runtime.wording import counted, plural

WORDNET_ID = re.compile(r"n\d{8}")
_UNSORTED = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG|n\d{8}\.tar|ILSVRC2012_img_\w+\.tar")
_LEFT_OUT = (
    "names with a leading dot are never read and may stay; give what is meant as an image the suffix of "
    "its format, such as .jpg, and a place in a class folder"
)
_SHOWN = 3
# So many classes are ImageNet's under other names, not somebody's own data.
_LIKE_IMAGENET = range(900, 1101)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder but those with a leading dot, which nothing reads."""
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())


def packed_store(folder: Path) -> Finding | None:
    if (folder / "store.json").is_file():
        return ok(folder, f"a packed store; its bytes: micl-bench data verify {folder}")
    if (folder / "journal.jsonl").is_file():
        fix = "give the same micl-bench data pack command again; it goes on where it was"
        return problem(folder, "a packed store that was not finished", fix)
    return None


def check_splits(folder: Path) -> Iterator[Finding]:
    """Check a folder with `train`, `val` or both: image folders or packed stores."""
    splits = [folder / split for split in ("train", "val") if (folder / split).is_dir()]
    for split in splits:
        if store := packed_store(split):
            yield store
        elif subfolders(split):
            yield from check_classes(split)
        else:
            layout = "the layout is <folder>/<class>/<image>.jpg"
            yield from unsorted(split) or [problem(split, "no class folders", layout)]
    if len(splits) == 2:
        train, val = ({child.name for child in subfolders(split)} for split in splits)
        if train and (alone := sorted(val - train)):
            found = f"{counted(len(alone), 'class', 'classes')} that train lacks: {first(alone)}"
            fix = "use train and val of one release; classes are matched by folder name"
            yield problem(folder / "val", found, fix)


def unsorted(folder: Path) -> list[Finding]:
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


def check_classes(folder: Path) -> Iterator[Finding]:
    """Check a folder of class folders; what `eval` refuses is a problem."""
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
    yield from check_images(folder, [listing])
    yield _named(folder, listing)


def _named(folder: Path, listing: Listing) -> Finding:
    """Count images and classes, and check the names of the class folders."""
    names = sorted(listing.classes)
    images = counted(sum(map(len, listing.classes.values())), "image")
    numbers = f"{images} in {counted(len(names), 'class', 'classes')}"
    others = [name for name in names if not WORDNET_ID.fullmatch(name)]
    if others and len(others) < len(names):
        are = plural(len(others), "folder is no WordNet id", "folders are no WordNet ids")
        fix = "move what is no class elsewhere; each folder is read as a class"
        return warning(folder, f"{numbers}; {len(others):,} {are}: {first(others)}", fix)
    if others and len(names) in _LIKE_IMAGENET:
        return warning(
            folder,
            f"{numbers}, as ImageNet has, but folders are called {first(others)}: nothing says "
            "in which order labels count, and a wrong order gives accuracies near 0.1 %",
            "name the folders by WordNet id (n01440764, ...); robustness sets need them",
        )
    return ok(folder, numbers)


def check_images(folder: Path, listings: Sequence[Listing]) -> Iterator[Finding]:
    """Check the headers of the listed images; of many, as many as `eval` opens, evenly spaced."""
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
