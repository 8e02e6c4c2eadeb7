"""Image folders in ImageNet's layout: `<root>/<class>/<image>`, classes in sorted order."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from micl_bench.data.embedded.parts import embedded_name
from micl_bench.errors import InputError
from micl_bench.files import digest_listing
from micl_bench.record import DataSet

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}
_SPLITS = ("train", "val", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """The images of one split: paths and labels in a fixed order."""

    root: Path
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over names and sizes."""
        return digest_listing(self.root, self.paths)

    def describe(self) -> DataSet:
        """As records name it; parts of the embedded set say what they stand for."""
        split = self.root.name if self.root.name in _SPLITS else "all"
        own = self.root.resolve().parent if split != "all" else self.root.resolve()
        name, stands_for = embedded_name(self.root) or (own.name, "")
        return DataSet(
            name=name, split=split, images=len(self), digest=self.digest, stands_for=stands_for
        )


def open_folder(root: Path, *, classes: tuple[str, ...] | None = None) -> Folder:
    """List an image folder.

    Args:
        classes: the label order to use, from the training folder; found by name, never by position.

    Raises:
        InputError: no folder, no class folder, an empty class, or a class that `classes` lacks.
    """
    if not root.is_dir():
        raise InputError(f"no image folder at {root}; the layout is <folder>/<class>/<image>.jpg")
    found = tuple(sorted(path.name for path in root.iterdir() if path.is_dir()))
    if not found:
        raise InputError(f"{root} has no class folders; the layout is <folder>/<class>/<image>.jpg")
    order = found if classes is None else classes
    if unknown := [name for name in found if name not in order]:
        raise InputError(f"{root} has classes unknown in training: {', '.join(unknown[:5])}")
    paths: list[Path] = []
    labels: list[int] = []
    for name in found:
        images = sorted(p for p in (root / name).iterdir() if p.suffix.lower() in _SUFFIXES)
        if not images:
            raise InputError(f"class folder {root / name} has no image; add some or remove it")
        paths += images
        labels += [order.index(name)] * len(images)
    return Folder(root=root, classes=order, paths=tuple(paths), labels=tuple(labels))


def read_image(path: Path) -> Image.Image:
    """Decode one image as RGB.

    Raises:
        InputError: it cannot be read or decoded.
    """
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                # Pillow would clip such pixels to 8 bits: nearly white, or black.
                raise InputError(f"{path} has pixels of more than 8 bits; convert it to 8 bits")
            return image.convert("RGB")
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is no readable image ({error}); replace or remove it") from error


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image to uint8 (3, H, W); normalising is left to the device."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
