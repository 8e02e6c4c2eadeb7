"""Names in folders; no file is opened."""

import os
from pathlib import Path

from micl_bench.data.faults import first

__all__ = ["files_and_others", "first", "subfolders"]


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder but those with a leading dot, which nothing reads."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.name[0] != "." and _is_dir(entry))


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads back to itself.
        return False


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
