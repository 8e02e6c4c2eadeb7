"""Build the whole data set, or nothing.

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

from micl_bench.data.embedded.manifest import DATASET_NAME, DESCRIPTION_FILE, FORMAT_VERSION, PARTS
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_folder, digest_files
from micl_bench.runtime.values import Seed, checked

ProgressCallback = Callable[[str, int, int], None]
"""Called as (part, parts done, parts in all) before each part and once, done == all, at the end."""


def write_embedded(out: Path, *, seed: int = 0, progress: ProgressCallback | None = None) -> None:
    """Write the embedded data set; the same seed gives the same bytes.

    Does nothing if `out` already holds the finished set of this seed, and rebuilds one that an
    older version wrote or that lost a part.

    Raises:
        InputError: The seed is negative, or `out` is something else's: a file, a folder with other
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
    """Whether nothing is left to do; raises if `out` must not be replaced."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise InputError(f"{out} is a file; give a new or empty folder for the embedded data set")
    entries = {path.name for path in out.iterdir()}
    if not entries:
        return False
    description = _read_description(out / DESCRIPTION_FILE)
    strange = sorted(entries - {*PARTS, DESCRIPTION_FILE})
    if description.get("name") != DATASET_NAME or strange:
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
    return description.get("format_version") == FORMAT_VERSION and entries >= {*PARTS}


def _read_description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _fill(root: Path, seed: int, progress: ProgressCallback | None) -> None:
    # Here, not above: scikit-learn takes a second to import, which `--help` shall not wait for.
    from micl_bench.data.embedded import ade20k, clean, coco, renditions, sketches
    from micl_bench.data.embedded import like_imagenet_a as hard
    from micl_bench.data.embedded.photographs import load_photographs
    from micl_bench.data.embedded.scans import load_scans
    from micl_bench.data.embedded.scenes import compose_splits

    scans, photographs = load_scans(seed), load_photographs()
    scenes = compose_splits(scans, photographs, seed=seed)
    writers: dict[str, Callable[[Path], dict[str, int]]] = {
        "embedded": lambda folder: clean.write(folder, scans),
        "embedded-a": lambda folder: hard.write(folder, scans),
        "embedded-r": lambda folder: renditions.write(folder, scans, photographs, seed=seed),
        "embedded-sketch": lambda folder: sketches.write(folder, scans, seed=seed),
        "embedded-ade20k": lambda folder: ade20k.write(folder, scenes),
        "embedded-coco": lambda folder: coco.write(folder, scenes),
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
        "name": DATASET_NAME,
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "scans": scans.counts(),
        "parts": parts,
    }
    (root / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    if progress:
        progress("embedded", len(writers), len(writers))
