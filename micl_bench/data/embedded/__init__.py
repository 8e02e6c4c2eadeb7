"""A small data set in every format the suite reads, made from scikit-learn's own files; light to import.

    out/
      embedded/{train,val}/digit_D/scan_NNNN.jpg      clean scans, 32x32
      embedded-a/digit_D/scan_NNNN.jpg                scans that a pixel classifier finds hard
      embedded-r/digit_D/scan_NNNN.jpg                renditions in paint, pen, photographs
      embedded-sketch/digit_D/scan_NNNN.jpg           outlines
      embedded-ade20k/{images,annotations}/{training,validation}/
      embedded-coco/{train2017,val2017,annotations}/  the same scenes, 96x96
      dataset.json                                    seed, counts, digests; written last

Training images and scenes show only the train scans, validation only the val scans, and the three
shifted sets only the reserve scans: nothing that is tested on was ever trained on.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_files
from micl_bench.runtime.folders import atomic_folder
from micl_bench.runtime.validate import read_json
from micl_bench.runtime.values import Seed, checked

_FORMAT_VERSION = 1
"""Raised whenever the same seed gives other bytes, so that an old folder is built anew."""

_NAME = "micl-bench-embedded"

PARTS: dict[str, str] = {
    "embedded": "ImageNet",
    "embedded-a": "ImageNet-A",
    "embedded-r": "ImageNet-R",
    "embedded-sketch": "ImageNet-Sketch",
    "embedded-ade20k": "ADE20K",
    "embedded-coco": "COCO 2017",
}
"""Each folder's name, and the data set that it stands for."""

DESCRIPTION_FILE = "dataset.json"


ProgressCallback = Callable[[str, int, int], None]
"""A function of (part, parts done, parts in all), called before each part and once at the end."""


def embedded_name(folder: Path) -> tuple[str, str] | None:
    """Return the display name of a folder in a finished embedded set, and the set that it stands for.

    Outside of one it is None.
    """
    for path in (folder.resolve(), *folder.resolve().parents[:2]):
        if path.name in PARTS and _description(path.parent).get("name") == _NAME:
            stands_for = PARTS[path.name]
            tail = stands_for.removeprefix("ImageNet").removeprefix("-").split(" ")[0]
            return (f"embedded-{tail}" if tail else "embedded"), stands_for
    return None


def write_embedded(out: Path, *, seed: int = 0, progress: ProgressCallback | None = None) -> None:
    """Write the embedded data set; the same seed gives the same bytes.

    Does nothing if `out` already holds the finished set of this seed, and rebuilds one that an
    older version wrote or that lost a part.

    Raises:
        InputError: the seed is negative, or `out` is something else's: a file, a folder with other
            content, or the set of another seed.
    """
    checked(Seed, seed, "seed")
    # A link is followed: the folder that it names is replaced, not the link.
    out = out.resolve()
    if not _is_finished(out, seed):
        # Asked again once no other process is at it, which may just have made it.
        atomic_folder(
            out,
            lambda folder: _fill(folder, seed, progress),
            unless=lambda: _is_finished(out, seed),
        )


def _is_finished(out: Path, seed: int) -> bool:
    """Return whether nothing is left to do; raise an InputError if `out` must not be replaced."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise InputError(f"{out} is a file; give a new or empty folder for the embedded data set")
    entries = {path.name for path in out.iterdir()}
    if not entries:
        return False
    description = _description(out)
    strange = sorted(entries - {*PARTS, DESCRIPTION_FILE})
    if description.get("name") != _NAME or strange:
        found = ", ".join((strange or sorted(entries))[:3])
        raise InputError(
            f"{out} holds other files ({found}); give a new or empty folder, "
            "or one that holds the embedded data set"
        )
    if description.get("seed") != seed:
        raise InputError(
            f"{out} holds the embedded data set of seed {description.get('seed')}, not {seed}; "
            "give another folder, or delete this one"
        )
    return description.get("format_version") == _FORMAT_VERSION and entries >= {*PARTS}


def _description(root: Path) -> dict[str, Any]:
    try:
        return read_json(root / DESCRIPTION_FILE, dict[str, Any])
    except InputError:
        return {}


def _fill(root: Path, seed: int, progress: ProgressCallback | None) -> None:
    # Here, not above: scikit-learn takes a second to import, which `--help` shall not wait for.
    from micl_bench.data.embedded.material import load_photographs, load_scans
    from micl_bench.data.embedded.pictures import (
        write_clean,
        write_hard,
        write_renditions,
        write_sketches,
    )
    from micl_bench.data.embedded.scenes import compose_splits, write_ade20k, write_coco

    scans, photographs = load_scans(seed), load_photographs()
    scenes = compose_splits(scans, photographs, seed=seed)
    writers: dict[str, Callable[[Path], dict[str, int]]] = {
        "embedded": lambda folder: write_clean(folder, scans),
        "embedded-a": lambda folder: write_hard(folder, scans),
        "embedded-r": lambda folder: write_renditions(folder, scans, photographs, seed=seed),
        "embedded-sketch": lambda folder: write_sketches(folder, scans, seed=seed),
        "embedded-ade20k": lambda folder: write_ade20k(folder, scenes),
        "embedded-coco": lambda folder: write_coco(folder, scenes),
    }
    assert list(writers) == list(PARTS)
    parts: dict[str, Any] = {}
    for done, (part, write) in enumerate(writers.items()):
        if progress:
            progress(part, done, len(writers))
        counts = write(root / part)
        files = [path for path in (root / part).rglob("*") if path.is_file()]
        parts[part] = {
            "stands_for": PARTS[part],
            "images": counts,
            "digest": digest_files(root / part, files),
        }
    description = {
        "name": _NAME,
        "format_version": _FORMAT_VERSION,
        "seed": seed,
        "scans": scans.counts(),
        "parts": parts,
    }
    (root / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    if progress:
        progress("embedded", len(writers), len(writers))
