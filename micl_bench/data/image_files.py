"""The one rule that decides which files of a folder are images; no file is opened.

An image is a file whose suffix, in any case, is one of `SUFFIXES`. Names with a leading dot are never
read, files and folders (`.ipynb_checkpoints`, `._1.jpg`). A class folder is read with all folders in
it, in the order of torchvision's ImageFolder. Files that are not read are counted, for one line; one
that may have been meant as data and cannot be read, such as a link to nowhere, is a fault.
"""

import dataclasses
import errno
import heapq
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.folders import place_of
from micl_bench.runtime.log import printable
from micl_bench.runtime.wording import counted

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Suffixes in lower case: torchvision's, and other names of the same formats."""

_SHOWN = 3
_LONGEST_SHOWN = 48
# Controls, halves of surrogate pairs (bytes that are no UTF-8), separators of lines and paragraphs.
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")


def is_image_name(name: str) -> bool:
    """Return whether a file of this name counts as an image."""
    return name[:1] != "." and _suffix(name) in SUFFIXES


def _suffix(name: str) -> str:
    # A path object for each of ImageNet-C's 3,750,000 images would take a minute.
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if stem and dot and end else ""


def name_text(name: str) -> str:
    """Return a file's name as UTF-8 text of one line; most names are that already.

    In others, folder by folder, every backslash is doubled, and bytes that are no UTF-8 and control
    characters are written as in Python's strings: `caf\\xe9.png`. Different names stay different, but
    for one that is spelled as another's escape; who lists files refuses that.
    """
    if name.isprintable():
        return name
    parts = name.split("/")
    return "/".join("".join(map(_escaped, part)) if _is_no_text(part) else part for part in parts)


def _is_no_text(name: str) -> bool:
    return any(unicodedata.category(character) in _NO_TEXT for character in name)


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if not _is_no_text(character):
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        # Python writes a byte that it cannot decode so.
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}"


def shown_name(name: str) -> str:
    """Return a name of bounded length for messages, without characters that turn the text around."""
    text = printable(name_text(name))
    half = _LONGEST_SHOWN // 2
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: half - 2]}...{text[1 - half :]}"


def shown_names(names: Iterable[str], *, most: int = _SHOWN) -> str:
    """Join the first of some names: `a, b, c and 5 more`."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown_name, names[:most])) + more


@dataclasses.dataclass(frozen=True)
class Fault:
    """An entry that cannot be listed."""

    path: str
    reason: str
    """`is a link to nowhere`, ..."""
    is_image: bool = False
    """Its name is an image's; it is listed among the images all the same."""


@dataclasses.dataclass
class Listing:
    """The content of a folder, by names alone."""

    root: Path
    classes: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Images of each class folder relative to it, in the order of ImageFolder; folders are sorted."""
    hidden: list[str] = dataclasses.field(default_factory=list)
    """Names with a leading dot; a folder counts as one."""
    others: Counter[str] = dataclasses.field(default_factory=Counter)
    """Numbers of files without an image's suffix, by suffix."""
    loose: list[str] = dataclasses.field(default_factory=list)
    """Images beside class folders."""
    faults: list[Fault] = dataclasses.field(default_factory=list)

    def require_whole(self, *, but_images: bool = False) -> None:
        """Raise an InputError for an entry that cannot be listed.

        Args:
            but_images: leave images to the caller, who reads them one by one.
        """
        faults = [fault for fault in self.faults if not (but_images and fault.is_image)]
        if faults:
            first = min(faults, key=lambda fault: fault.path)
            more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
            raise InputError(f"{first.path} {first.reason}{more}; replace or remove it")

    @property
    def left_out(self) -> str:
        """Return one line, without a newline, on files that are not read; empty where all are."""
        parts = []
        if self.hidden:
            parts.append(f"{len(self.hidden):,} with a leading dot ({_first_of(self.hidden)})")
        if number := self.others.total():
            most = sorted(self.others, key=lambda suffix: (-self.others[suffix], suffix))
            named = ", ".join(shown_name(suffix) or "no suffix" for suffix in most[:_SHOWN])
            more = ", ..." if most[_SHOWN:] else ""
            parts.append(f"{number:,} that are no images by their suffix ({named}{more})")
        if self.loose:
            images = counted(len(self.loose), "image")
            parts.append(f"{images} outside class folders ({_first_of(self.loose)})")
        number = len(self.hidden) + self.others.total() + len(self.loose)
        are = counted(number, "entry is", "entries are")
        return f"{are} not read: {'; '.join(parts)}" if parts else ""

    def sort(self, folder: str, place: str = "") -> tuple[list[str], list[str]]:
        """Return the names of the folders and of the images in a folder, and note its other entries.

        Args:
            place: path of the folder below the root, with a slash at its end.
        """
        folders, images = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name[0] == ".":
                        self.hidden.append(place + entry.name)
                    elif _is_folder(entry):
                        folders.append(entry.name)
                    elif self._is_image(entry):
                        images.append(entry.name)
        except OSError as error:
            self.faults.append(Fault(folder, f"cannot be listed ({error.strerror})"))
        return folders, images

    def _is_image(self, entry: "os.DirEntry[str]") -> bool:
        """Return whether an entry that is no folder is an image, and note other entries."""
        named = is_image_name(entry.name)
        if reason := _fault_of(entry, named):
            self.faults.append(Fault(entry.path, reason, is_image=named))
        elif not named:
            self.others[_suffix(entry.name)] += 1
        return named


def list_classes(root: Path, only: Collection[str] | None = None) -> Listing:
    """List the class folders of a folder and the images in them.

    Args:
        only: names of the folders to look into, as `name_text` writes them; None for all.
    """
    found = Listing(root)
    folders, found.loose = found.sort(os.fspath(root))
    above = {place_of(folder) for folder in (root.resolve(), *root.resolve().parents)}
    for name in sorted(folders):
        if only is None or name_text(name) in only:
            found.classes[name] = _images_in_class(name, found, set(above))
    return found


def list_images(root: Path) -> tuple[tuple[str, ...], Listing]:
    """Return the names of the images in a folder itself, sorted, and its folders as empty classes."""
    found = Listing(root)
    folders, images = found.sort(os.fspath(root))
    found.classes = dict.fromkeys(folders, ())
    return tuple(sorted(images)), found


def class_folders(root: Path) -> tuple[str, ...]:
    """Return the names of the class folders, sorted, as `name_text` writes them; none without a folder.

    Raises:
        InputError: the folder, or a link in it, cannot be looked up.
    """
    if not root.is_dir():
        return ()
    _, found = list_images(root)
    found.require_whole(but_images=True)
    return tuple(map(name_text, sorted(found.classes)))


def join_lines(lines: Iterable[str]) -> str:
    """Join the lines of several folders, equal ones once."""
    return "; ".join(dict.fromkeys(line for line in lines if line))


def _images_in_class(
    name: str, found: Listing, seen: set[tuple[int, int] | None]
) -> tuple[str, ...]:
    """Return the relative names of a class's images.

    Args:
        seen: folders that must not be read again, so that links neither double images nor lead in a
            circle: one that leads to any of them is a fault.
    """
    images: list[tuple[str, str]] = []
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        folder = "/".join(filter(None, (os.fspath(found.root), name, inside)))
        own = place_of(Path(folder))
        if own and own in seen:
            found.faults.append(Fault(folder, "leads to a folder that is read already"))
            continue
        seen.add(own)
        place = f"{inside}/" if inside else ""
        folders, files = found.sort(folder, f"{name}/{place}")
        waiting += [place + below for below in folders]
        images += [(inside, file) for file in files]
    return tuple(f"{inside}/{file}" if inside else file for inside, file in sorted(images))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # Reported where the entry turns out to be no file either.
        return False


def _fault_of(entry: "os.DirEntry[str]", named: bool) -> str:
    """Return the reason why an entry that is no folder cannot be read; empty for none."""
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


def _first_of(names: list[str]) -> str:
    more = ", ..." if names[_SHOWN:] else ""
    return ", ".join(map(shown_name, heapq.nsmallest(_SHOWN, names))) + more
