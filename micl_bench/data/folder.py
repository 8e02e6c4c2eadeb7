"""Image folders in ImageNet's layout: `<root>/<class>/<image>`, classes in sorted order.

`image_files.py` decides which files are images.
"""

import dataclasses
import functools
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from micl_bench.data.embedded import embedded_name
from micl_bench.data.headers import Header
from micl_bench.data.image_files import (
    Listing,
    list_classes,
    list_images,
    name_text,
    shown_name,
    shown_names,
)
from micl_bench.records.result import DataSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_listing
from micl_bench.runtime.log import say

# Files of the known suffixes hold these; Pillow knows dozens more, each more code for strange bytes.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
# A JPEG of several pictures, as cameras write it, calls itself MPO once it is open.
_KINDS = (*_FORMATS, "MPO")
# First letters of the modes that have more than 8 bits per channel.
_DEEP = ("I", "F")
SPLITS = ("train", "val", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """The images of one split: paths and labels in a fixed order."""

    root: Path
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    border: int = 0
    """Pixels on each side that are not part of the images; evaluation cuts them off."""
    left_out: str = ""
    """One line on the files there that are not read; empty where there are none."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that the images are read from."""
        return self.paths

    @functools.cached_property
    def digest(self) -> str:
        """Return the SHA-256 over names and sizes.

        Raises:
            InputError: a link is broken, or a file went since.
        """
        try:
            return digest_listing(self.root, self.paths)
        except OSError as error:
            raise InputError(
                f"{error.filename} is no readable image ({error.strerror}); replace or remove it"
            ) from error

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Return each image's name relative to the root, `<class>/<file>`, as `name_text` writes it."""
        return tuple(name_text(path.relative_to(self.root).as_posix()) for path in self.paths)

    @functools.cached_property
    def labels_N(self) -> NDArray[np.int64]:
        """Return the labels as an array."""
        return np.array(self.labels, dtype=np.int64)

    def image(self, index: int) -> Image.Image:
        """Decode an image as evaluation sees it, without its border.

        Raises:
            InputError: the image cannot be decoded, or is nothing but border.
        """
        image, border = self.read(index), self.border
        if not border:
            return image
        if min(image.size) <= 2 * border:
            raise InputError(
                f"{self.paths[index]} has {image.width} x {image.height} pixels, no more than the "
                f"border of {border} on each side; replace or remove it"
            )
        return image.crop((border, border, image.width - border, image.height - border))

    def read(self, index: int, *, at_least: int = 0) -> Image.Image:
        """Decode an image with its border, as `read_image` does."""
        return read_image(self.paths[index], at_least=at_least)

    def part(self, index_n: NDArray[np.integer]) -> "Folder":
        """Return these images alone; labels keep their numbers."""
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[i] for i in index_n),
            labels=tuple(self.labels[i] for i in index_n),
        )

    def in_order(self, classes: tuple[str, ...]) -> "Folder":
        """Return the same images with labels as places in `classes`.

        Raises:
            InputError: `classes` lacks a class of the folder.
        """
        if self.classes == classes:
            return self
        place = {name: label for label, name in enumerate(classes)}
        if unknown := [name for name in self.classes if name not in place]:
            raise InputError(
                f"{self.root} has classes unknown in training: {shown_names(unknown, most=5)}"
            )
        labels = tuple(place[self.classes[label]] for label in self.labels)
        return dataclasses.replace(self, classes=classes, labels=labels)

    def describe(self) -> DataSet:
        """Return the data set as records name it, with the set that an embedded part stands for."""
        name, split = set_and_split(self.root)
        name, stands_for = embedded_name(self.root) or (name, "")
        return DataSet(
            name=name,
            split=split,
            images=len(self),
            digest=self.digest,
            stands_for=stands_for,
            left_out=self.left_out,
        )


def set_and_split(root: Path) -> tuple[str, str]:
    """Return the name of a folder's data set, and its split, `all` for the whole.

    The folder above the split gives the name, wherever a link in the split's place leads.
    """
    place = root if root.name in SPLITS else root.resolve()
    split = place.name if place.name in SPLITS else "all"
    own = place.resolve() if split == "all" else place.parent.resolve()
    # The root of a file system has no name.
    return shown_name(own.name) or "unnamed", split


def open_folder(
    root: Path, *, classes: tuple[str, ...] | None = None, but_images: bool = False
) -> Folder:
    """List an image folder, and print a line on files in it that are not read.

    Args:
        classes: the label order to use, from the training folder; found by name, never by position.
        but_images: leave links to nowhere and the like to the caller, who reads images one by one.

    Raises:
        InputError: there is no folder, no class folder, an empty class or one that `classes` lacks;
            something cannot be listed, or two names differ in bytes that are no text.
    """
    if not root.is_dir():
        raise InputError(f"no image folder at {root}; the layout is <folder>/<class>/<image>.jpg")
    found = list_classes(root)
    found.require_whole(but_images=but_images)
    if not found.classes:
        raise InputError(f"{root} has no class folders; the layout is <folder>/<class>/<image>.jpg")
    for name, images in found.classes.items():
        if not images:
            left_out = list_images(root / name)[1].left_out
            holds = f" ({left_out})" if left_out else ""
            raise InputError(
                f"class folder {root / name} has no image{holds}; add some or remove it"
            )
    folder = folder_of(found, tuple(map(name_text, found.classes)))
    if classes is not None:
        folder = folder.in_order(classes)
    if folder.left_out:
        say(f"{root}: {folder.left_out}")
    return folder


def folder_of(found: Listing, order: tuple[str, ...], *, border: int = 0) -> Folder:
    """Return the images of a listing, with labels as places in `order`.

    Raises:
        InputError: two names become the same text.
    """
    place = {name: label for label, name in enumerate(order)}
    pairs = [(name, image) for name, images in found.classes.items() for image in images]
    texts = Counter(name_text(f"{name}/{image}") for name, image in pairs)
    if len(texts) < len(pairs):
        doubled = texts.most_common(1)[0][0]
        raise InputError(f"{found.root} has two names that both read {doubled}; rename one of them")
    return Folder(
        root=found.root,
        classes=order,
        paths=tuple(found.root / name / image for name, image in pairs),
        labels=tuple(place[name_text(name)] for name, _ in pairs),
        border=border,
        left_out=found.left_out,
    )


def read_image(path: Path, *, at_least: int = 0) -> Image.Image:
    """Decode one image, of several frames the first, as RGB.

    EXIF's orientation is not applied, as in torchvision's ImageFolder, with which published numbers were
    measured.

    Args:
        at_least: a JPEG may be decoded at a half, a quarter or an eighth, as long as both sides keep
            this many pixels; 0 decodes in full. Twice the size it will be resized to loses next to
            nothing (Pillow's own advice on `reducing_gap`).

    Raises:
        InputError: the file cannot be read or decoded.
    """
    return read_sized_image(path, at_least=at_least)[0]


def read_sized_image(path: Path, *, at_least: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """Decode one image as `read_image` does; return it with the width and height of the file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # A pipe would be waited for without end.
            raise ValueError("it is not a file")
        if status.st_size == 0:
            raise ValueError("it is empty")
        with Image.open(path, formats=_FORMATS) as image:
            size = image.size
            if at_least:
                image.draft(None, (at_least, at_least))
            return _to_rgb(image), size
    except Exception as error:
        # Broken bytes make decoders raise whatever they come across, not only OSError.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"its content is none of {', '.join(_FORMATS)}"
        raise InputError(f"{path} is no readable image ({reason}); replace or remove it") from error


def may_be_unreadable(header: Header) -> bool:
    """Return whether `read_image` may refuse a file with this header; only decoding shows it."""
    deep = header.mode[:1] in _DEEP and header.kind != "PNG"
    return bool(header.error) or header.kind not in _KINDS or deep


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] not in _DEEP:
        return image.convert("RGB")
    # Pillow would clip such pixels to 8 bits: nearly white, or black.
    if image.format != "PNG":
        raise ValueError(
            "it has pixels of more than 8 bits, of unknown range; convert it to 8 bits"
        )
    # A PNG's range is known, 0 to 65535; the high byte is what Pillow keeps of 16-bit colours too.
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as uint8 (3, H, W); normalising is left to the device."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
