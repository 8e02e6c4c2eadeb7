"""Digests of the data that a config reads: other images, or another truth, are other data."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from micl_bench.data.headers import in_threads
from micl_bench.data.image_files import name_text
from micl_bench.openmmlab.configs import dicts
from micl_bench.runtime.files import digest_file, digest_json
from micl_bench.runtime.folders import files_below

LOADERS = ("train_dataloader", "val_dataloader")
_KEYS = {"ann_file", "data_prefix", "data_root"}
_IMAGES = ("img", "img_path")


def data_digests(config: Config) -> dict[str, str]:
    """SHA-256 by `train_dataloader` and `val_dataloader`, for a config that has its data folder.

    Images count by their names and sizes, as in every data set: a set has 100,000 of them. The truth
    (annotation files, masks, lists of images) counts by its content: it is little, the number depends
    on each byte of it, and one that was put in another order or corrected often has the same size.
    Names with a leading dot count nowhere. A missing file is no error here; the checks name it.
    """
    return {loader: _digest(config, loader) for loader in LOADERS}


def _digest(config: Config, loader: str) -> str:
    images: set[Path] = set()
    truth: set[Path] = set()
    for node in dicts(config.get(loader)):
        if _KEYS & node.keys():
            pictures, labels = _read_by(node)
            images.update(pictures)
            truth.update(labels)
    if loader == "val_dataloader":
        for node in dicts(config.get("val_evaluator")):
            truth.update(_file(node, Path()))
    known: dict[Path, int | str] = {path: _size(path) for path in images - truth}
    known |= dict(zip(truth, in_threads(_content, truth), strict=True))
    root = config.get("data_root")
    return digest_json(
        {name_text(os.path.relpath(path, root)): value for path, value in known.items()}
    )


def _read_by(dataset: Any) -> tuple[set[Path], set[Path]]:
    """The files of images, and those of their truth."""
    root = Path(dataset.get("data_root") or "")
    prefixes = dataset.get("data_prefix")
    places = prefixes.items() if isinstance(prefixes, dict) else ()
    folders = {name: root / place for name, place in places if isinstance(place, str)}
    if not any(name in folders for name in _IMAGES):
        folders["img"] = root
    images, truth = set[Path](), set(_file(dataset, root))
    for name, folder in folders.items():
        (images if name in _IMAGES else truth).update(files_below(folder))
    return images, truth


def _file(node: Any, root: Path) -> Iterator[Path]:
    if isinstance(name := node.get("ann_file"), str) and name:
        yield root / name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _content(path: Path) -> str:
    try:
        status = path.stat()
        return _content_as_of(path, (status.st_size, status.st_mtime_ns, status.st_ino))
    except OSError:
        return ""


@functools.lru_cache(maxsize=1 << 17)
def _content_as_of(path: Path, written: tuple[int, ...]) -> str:
    """Read once, however often it is asked for."""
    return digest_file(path)
