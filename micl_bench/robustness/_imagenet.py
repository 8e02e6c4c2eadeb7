"""ImageNet's classes, subsets of them and ReaL labels, from the class maps that timm ships."""

import functools
import importlib.util
import json
from pathlib import Path, PurePosixPath

from micl_bench.robustness._set import CleanSet


@functools.cache
def imagenet_classes(subset: str = "") -> tuple[str, ...]:
    """WordNet ids in sorted order: all 1000, or the 200 of ImageNet-A (`a`) or -R (`r`)."""
    name = f"imagenet_{subset}_synsets.txt" if subset else "imagenet_synsets.txt"
    return tuple(_class_map(name).split())


@functools.cache
def real_labels() -> tuple[tuple[int, ...], ...]:
    """For validation image 1, 2, ...: positions of its ReaL labels among the sorted WordNet ids.

    Empty for the 3,163 images whose raters agreed on none. Beyer et al., Are we done with ImageNet?,
    arXiv 2006.07159.
    """
    return tuple(map(tuple, json.loads(_class_map("imagenet_real_labels.json"))))


def _class_map(name: str) -> str:
    # Found, not imported: timm imports torch, which takes seconds.
    spec = importlib.util.find_spec("timm")
    assert spec
    assert spec.origin
    return (Path(spec.origin).parent / "data" / "_info" / name).read_text(encoding="utf-8")


IMAGENET_VAL = CleanSet(
    folder=PurePosixPath("imagenet/val"), classes=imagenet_classes(), per_class=50
)
"""ILSVRC 2012's validation images, sorted into folders by WordNet id."""
