"""Names in folders; no file is opened."""

import os
from pathlib import Path

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
_SHOWN = 3


def subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def count_images(folder: Path) -> int:
    """Image files directly in a folder; 0 where it is missing."""
    if not folder.is_dir():
        return 0
    with os.scandir(folder) as entries:
        return sum(entry.name.lower().endswith(_SUFFIXES) for entry in entries)


def first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if names[_SHOWN:] else "")
