"""Which files of a folder are images: the one rule of everything that lists them; no file is opened.

An image is a file whose suffix, in any case, is one of `SUFFIXES`. Names with a leading dot are never
read, files and folders (`.ipynb_checkpoints`, `._1.jpg`). A class folder is read with all folders in
it, in the order of torchvision's ImageFolder. What is not read is counted, for one line; what may have
been meant as data and cannot be read, such as a link to nowhere, is a fault.
"""

import bisect
import dataclasses
import errno
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import place_of
from micl_bench.runtime.log import printable

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
"""In lower case: torchvision's, and other names of the same formats."""

_SHOWN = 3
_LONGEST_SHOWN = 48
# Controls, halves of surrogate pairs (bytes that are no UTF-8), separators of lines and paragraphs.
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image."""
    return name[:1] != "." and _suffix(name) in SUFFIXES


def _suffix(name: str) -> str:
    # A path object for each of ImageNet-C's 3,750,000 images would take a minute.
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if stem and dot and end else ""


def name_text(name: str) -> str:
    """A name of a file as text that fits on one line and is UTF-8; most names are that already.

    In others, folder by folder, every backslash is doubled, and bytes that are no UTF-8 and control
    characters are written as in Python's strings: `caf\\xe9.png`. Different names stay different, but
    for one that is spelled as another's escape; who lists files refuses that.
    """
    if name.isprintable():
        return name
    return "/".join(map(_part_text, name.split("/")))


def _part_text(name: str) -> str:
    if not any(unicodedata.category(character) in _NO_TEXT for character in name):
        return name
    return "".join(map(_escaped, name))


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) not in _NO_TEXT:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        # The byte that Python put there for what it could not decode.
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}"


def shown_name(name: str) -> str:
    """A name of bounded length for messages, in which nothing turns the text around either."""
    text = printable(name_text(name))
    half = _LONGEST_SHOWN // 2
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: half - 2]}...{text[1 - half :]}"


@dataclasses.dataclass(frozen=True)
class Fault:
    """What cannot be listed."""

    path: str
    reason: str
    """`is a link to nowhere`, ..."""
    is_image: bool = False
    """By its name; it is listed among the images all the same."""


@dataclasses.dataclass
class _Some:
    """How many, and the first few names."""

    number: int = 0
    names: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str) -> None:
        self.number += 1
        bisect.insort(self.names, name)
        del self.names[_SHOWN:]

    def __str__(self) -> str:
        more = ", ..." if self.number > len(self.names) else ""
        return f"{', '.join(map(shown_name, self.names))}{more}"


@dataclasses.dataclass
class LeftOut:
    """What lies in a folder and is not read."""

    hidden: _Some = dataclasses.field(default_factory=_Some)
    """Names with a leading dot; a folder counts as one."""
    loose: _Some = dataclasses.field(default_factory=_Some)
    """Images beside class folders, or deeper than they are looked for."""
    others: Counter[str] = dataclasses.field(default_factory=Counter)
    """Files of no image suffix, by suffix."""

    def __str__(self) -> str:
        """One line without an end; empty where everything is read."""
        parts = []
        if self.hidden.number:
            parts.append(f"{self.hidden.number:,} with a leading dot ({self.hidden})")
        if self.others:
            most = sorted(self.others, key=lambda kind: (-self.others[kind], kind))
            kinds = [shown_name(kind) or "no suffix" for kind in most[: _SHOWN + 1]]
            more = ", ..." if len(kinds) > _SHOWN else ""
            named = f"{', '.join(kinds[:_SHOWN])}{more}"
            parts.append(f"{self.others.total():,} that are no images by their suffix ({named})")
        if self.loose.number:
            images = "image" if self.loose.number == 1 else "images"
            parts.append(f"{self.loose.number:,} {images} outside class folders ({self.loose})")
        number = self.hidden.number + self.others.total() + self.loose.number
        are = "entry is" if number == 1 else "entries are"
        return f"{number:,} {are} not read: {'; '.join(parts)}" if parts else ""

    def add_other(self, name: str) -> None:
        """Count a file that is no image by its name."""
        self.others[_suffix(name)] += 1


@dataclasses.dataclass
class Listing:
    """What a folder holds, by its names alone."""

    root: Path
    classes: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Class folder, in sorted order, to its images relative to it, in the order of ImageFolder."""
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)
    faults: list[Fault] = dataclasses.field(default_factory=list)

    def require_whole(self, *, but_images: bool = False) -> None:
        """Raise an InputError for what cannot be listed.

        Args:
            but_images: whoever reads images one by one tells of those itself.
        """
        faults = [fault for fault in self.faults if not (but_images and fault.is_image)]
        if faults:
            first = min(faults, key=lambda fault: fault.path)
            more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
            raise InputError(f"{first.path} {first.reason}{more}; replace or remove it")


def list_classes(root: Path, only: Collection[str] | None = None) -> Listing:
    """Class folders of a folder and the images in them.

    Args:
        only: of the folders of these names, as `name_text` writes them; others are not looked into.
    """
    found = Listing(root)
    folders = []
    for entry in _entries(os.fspath(root), found):
        if entry.name[0] == ".":
            found.left_out.hidden.add(entry.name)
        elif _is_folder(entry, found):
            folders.append(entry.name)
        elif _is_image(entry, found):
            found.left_out.loose.add(entry.name)
    outside = _own_and_above(root)
    for name in sorted(folders):
        if only is None or name_text(name) in only:
            found.classes[name] = _images_in_class(name, found, outside)
    return found


def list_images(root: Path) -> tuple[tuple[str, ...], Listing]:
    """Names of the images that lie in a folder itself, sorted; its folders as classes, not listed."""
    found, images = Listing(root), []
    for entry in _entries(os.fspath(root), found):
        if entry.name[0] == ".":
            found.left_out.hidden.add(entry.name)
        elif _is_folder(entry, found):
            found.classes[entry.name] = ()
        elif _is_image(entry, found):
            images.append(entry.name)
    return tuple(sorted(images)), found


def class_folders(root: Path) -> tuple[str, ...]:
    """Names of the class folders, sorted, as `name_text` writes them; none where no folder is.

    Raises:
        InputError: the folder, or a link in it, cannot be looked up.
    """
    if not root.is_dir():
        return ()
    _, found = list_images(root)
    Listing(root, faults=[one for one in found.faults if not one.is_image]).require_whole()
    return tuple(map(name_text, sorted(found.classes)))


def _images_in_class(name: str, found: Listing, outside: set[tuple[int, int]]) -> tuple[str, ...]:
    """Relative names of a class's images; folders that links lead to twice are faults."""
    top = f"{os.fspath(found.root)}/{name}"
    images: list[tuple[str, str]] = []
    seen = set(outside)
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        folder = f"{top}/{inside}" if inside else top
        if not _is_new(folder, seen, found):
            continue
        for entry in _entries(folder, found):
            below = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name[0] == ".":
                found.left_out.hidden.add(f"{name}/{below}")
            elif _is_folder(entry, found):
                waiting.append(below)
            elif _is_image(entry, found):
                images.append((inside, entry.name))
    return tuple(f"{inside}/{file}" if inside else file for inside, file in sorted(images))


def _is_new(folder: str, seen: set[tuple[int, int]], found: Listing) -> bool:
    """Note a folder; not twice the same, so that links neither double images nor lead in a circle."""
    try:
        status = Path(folder).stat()
    except OSError as error:
        found.faults.append(Fault(folder, f"cannot be listed ({error.strerror})"))
        return False
    own = status.st_dev, status.st_ino
    if own in seen:
        found.faults.append(Fault(folder, "leads to a folder that is read already"))
        return False
    seen.add(own)
    return True


def _own_and_above(root: Path) -> set[tuple[int, int]]:
    found = (place_of(folder) for folder in (root.resolve(), *root.resolve().parents))
    return {place for place in found if place}


def _entries(folder: str, found: Listing) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        found.faults.append(Fault(folder, f"cannot be listed ({error.strerror})"))


def _is_folder(entry: "os.DirEntry[str]", found: Listing) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # Told of where the entry turns out to be no file either.
        return False


def _is_image(entry: "os.DirEntry[str]", found: Listing) -> bool:
    """Whether an entry that is no folder is an image; what it is else is noted."""
    named = is_image_name(entry.name)
    if reason := _fault_of(entry, named):
        found.faults.append(Fault(entry.path, reason, is_image=named))
    elif not named:
        found.left_out.add_other(entry.name)
    return named


def _fault_of(entry: "os.DirEntry[str]", named: bool) -> str:
    try:
        if entry.is_file():
            return ""
        if entry.is_symlink() and not Path(entry).exists():
            return "is a link to nowhere"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself, or through too many others"
        return f"cannot be looked up ({error.strerror})"
    # Pipes, sockets, devices: one would be waited for without end.
    return "is no file" if named else ""


def join_lines(lines: Iterable[str]) -> str:
    """Lines of several folders as one, equal ones once."""
    return "; ".join(dict.fromkeys(line for line in lines if line))
