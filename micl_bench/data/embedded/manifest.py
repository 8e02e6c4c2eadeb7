"""The parts of the embedded data set; light, so that a command line can list them at once."""

import json
from pathlib import Path

FORMAT_VERSION = 1
"""Raised whenever the same seed gives other bytes, so that an old folder is built anew."""

DATASET_NAME = "micl-bench-embedded"

PARTS: dict[str, str] = {
    "embedded": "ImageNet",
    "embedded-a": "ImageNet-A",
    "embedded-r": "ImageNet-R",
    "embedded-sketch": "ImageNet-Sketch",
    "embedded-ade20k": "ADE20K",
    "embedded-coco": "COCO 2017",
}
"""Folder name to the data set it stands for, in layout and in what it tests."""

DESCRIPTION_FILE = "dataset.json"
CLASSES: tuple[str, ...] = tuple(f"digit_{digit}" for digit in range(10))


def embedded_name(folder: Path) -> tuple[str, str] | None:
    """Display name and what it stands for, of a folder in a finished embedded set; None outside one."""
    for path in (folder.resolve(), *folder.resolve().parents[:2]):
        if path.name in PARTS and _is_embedded(path.parent / DESCRIPTION_FILE):
            stands_for = PARTS[path.name]
            tail = stands_for.removeprefix("ImageNet").removeprefix("-").split(" ")[0]
            return (f"embedded-{tail}" if tail else "embedded"), stands_for
    return None


def _is_embedded(description: Path) -> bool:
    try:
        return bool(json.loads(description.read_text(encoding="utf-8"))["name"] == DATASET_NAME)
    except (OSError, ValueError, KeyError, TypeError):
        return False
