"""Names in folders; no file is opened."""

import os
from pathlib import Path

from micl_bench.data.faults import first

__all__ = ["count_images", "files_and_others", "first", "subfolders"]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")


def subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def count_images(folder: Path) -> int:
    """Image files directly in a folder; 0 where it is missing."""
    if not folder.is_dir():
        return 0
    with os.scandir(folder) as entries:
        return sum(entry.name.lower().endswith(_SUFFIXES) for entry in entries)


def files_and_others(folder: Path) -> tuple[set[str], set[str]]:
    """Names of files, and of all else: folders, links to nowhere, pipes that nobody would end.

    Both empty where the folder is missing.
    """
    files: set[str] = set()
    others: set[str] = set()
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                # Only links are looked up; one that leads round in a circle is no file.
                is_file = entry.is_file(follow_symlinks=False) or Path(entry).is_file()
                (files if is_file else others).add(entry.name)
    return files, others
