"""The scenes as ADE20K lays out its scene parsing benchmark (SceneParse150).

Label maps are 8-bit, one channel: 0 is background, which the benchmark ignores, and digit d is
d + 1. Pictures and label maps share the stem, `ADE_train_00000001`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from micl_bench.data.embedded.scenes import SCENE_SIZE, Scene

_FOLDERS = {"train": "training", "val": "validation"}


def write(folder: Path, scenes: dict[str, list[Scene]]) -> dict[str, int]:
    """Write pictures and label maps of both splits."""
    for split, name in _FOLDERS.items():
        images, annotations = folder / "images" / name, folder / "annotations" / name
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for number, scene in enumerate(scenes[split], start=1):
            stem = f"ADE_{split}_{number:08d}"
            (images / f"{stem}.jpg").write_bytes(scene.jpeg())
            Image.fromarray(_label_map(scene)).save(annotations / f"{stem}.png")
    return {name: len(scenes[split]) for split, name in _FOLDERS.items()}


def _label_map(scene: Scene) -> NDArray[np.uint8]:
    label_HW = np.zeros((SCENE_SIZE, SCENE_SIZE), dtype=np.uint8)
    for painted in scene.digits:
        label_HW[painted.visible] = painted.digit + 1
    return label_HW
