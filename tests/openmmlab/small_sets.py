"""Small copies of the embedded scenes, to be spoilt; and what a config's checks say of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image
from support import REPOSITORY

from micl_bench.openmmlab.configs import resolve
from micl_bench.openmmlab.data_checks import Checked, check
from micl_bench.runtime.errors import InputError

CONFIGS = {
    "coco": REPOSITORY / "downstream/embedded_mask_rcnn.py",
    "ade20k": REPOSITORY / "downstream/embedded_upernet.py",
}
COCO = {"train2017": 8, "val2017": 4}
ADE20K = {"training": 8, "validation": 4}
CLASSES = tuple(f"digit_{digit}" for digit in range(10))

Edit = Callable[[Any], Any]


def small_coco(embedded: Path, folder: Path) -> Path:
    """The first images of each split, with their annotations."""
    (folder / "annotations").mkdir(parents=True)
    source = embedded / "embedded-coco"
    for split, number in COCO.items():
        name = f"annotations/instances_{split}.json"
        names = cut_to(source / name, list(range(number)), folder / name)
        (folder / split).mkdir()
        for file in names:
            shutil.copy(source / split / file, folder / split)
    return folder


def cut_to(annotations: Path, chosen: list[int], path: Path) -> list[str]:
    """Write the annotations of the chosen images, by place, alone; their file names."""
    content = json.loads(annotations.read_text())
    content["images"] = [content["images"][place] for place in chosen]
    numbers = {image["id"] for image in content["images"]}
    content["annotations"] = [o for o in content["annotations"] if o["image_id"] in numbers]
    path.write_text(json.dumps(content))
    return [image["file_name"] for image in content["images"]]


def small_ade20k(embedded: Path, folder: Path) -> Path:
    """The first images and masks of each split."""
    for split, number in ADE20K.items():
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True)
            for file in sorted((embedded / "embedded-ade20k" / kind / split).iterdir())[:number]:
                shutil.copy(file, folder / kind / split)
    return folder


def edit(folder: Path, change: Edit, *splits: str) -> Path:
    """Change the annotations of splits, of both if none is named."""
    for split in splits or COCO:
        edit_file(folder / f"annotations/instances_{split}.json", change)
    return folder


def edit_file(file: Path, change: Edit) -> None:
    """Change what a JSON file holds."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def remask(folder: Path, split: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Change the labels of a split's masks."""
    for file in sorted((folder / "annotations" / split).iterdir()):
        with Image.open(file) as image:
            label_HW = np.asarray(image)
        Image.fromarray(change(label_HW)).save(file)


def resolved(folder: Path, *, config: Path | None = None) -> Config:
    """The shipped config of the folder's layout, or another, as a run has it."""
    task = "ade20k" if (folder / "images").is_dir() else "coco"
    checkpoint = "random:vit_demo_patch4_32"
    return resolve(
        config or CONFIGS[task], checkpoint=checkpoint, data=folder, seed=0, overrides=()
    )


def checked(folder: Path, *, config: Path | None = None) -> Checked:
    """What a run with the shipped config of the layout, or another, would find first."""
    return check(resolved(folder, config=config))


def changed_config(path: Path, task: str, *changes: tuple[str, str], more: str = "") -> Path:
    """A copy of a shipped config with other text in it, and more at its end."""
    text = CONFIGS[task].read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text + more)
    return path


def fatal(found: Checked) -> str:
    """What a run would be refused for, on one line."""
    lines = [f"{fault.found}; {fault.fix}" for fault in found.faults if fault.fatal]
    assert all("\n" not in line for line in lines)
    return " | ".join(lines)


def refused(data: Path, config: Path, match: str) -> None:
    """Check that data are no data for a config, as its InputError says."""
    with pytest.raises(InputError, match=match):
        checked(data, config=config)
