"""Small copies of the embedded scenes, to be spoilt; and what a config's checks say of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image

from micl_bench.openmmlab.configs import resolve
from micl_bench.openmmlab.data_checks import Checked, check

DOWNSTREAM = Path(__file__).parents[2] / "downstream"
CONFIGS = {"coco": "embedded_mask_rcnn.py", "ade20k": "embedded_upernet.py"}
COCO = {"train2017": 8, "val2017": 4}
ADE20K = {"training": 8, "validation": 4}

Edit = Callable[[Any], Any]


def small_coco(embedded: Path, folder: Path) -> Path:
    """The first images of each split, with their annotations."""
    (folder / "annotations").mkdir(parents=True)
    for split, number in COCO.items():
        source = embedded / "embedded-coco"
        content = json.loads((source / f"annotations/instances_{split}.json").read_text())
        content["images"] = content["images"][:number]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        (folder / split).mkdir()
        for image in content["images"]:
            shutil.copy(source / split / image["file_name"], folder / split)
        write(folder, split, content)
    return folder


def small_ade20k(embedded: Path, folder: Path) -> Path:
    """The first images and masks of each split."""
    for split, number in ADE20K.items():
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True)
            for file in sorted((embedded / "embedded-ade20k" / kind / split).iterdir())[:number]:
                shutil.copy(file, folder / kind / split)
    return folder


def write(folder: Path, split: str, content: Any) -> None:
    (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content))


def edit(folder: Path, change: Edit, *splits: str) -> Path:
    """Change the annotations of splits, of both if none is named."""
    for split in splits or COCO:
        content = json.loads((folder / f"annotations/instances_{split}.json").read_text())
        change(content)
        write(folder, split, content)
    return folder


def remask(folder: Path, split: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Change the labels of a split's masks."""
    for file in sorted((folder / "annotations" / split).iterdir()):
        with Image.open(file) as image:
            label_HW = np.asarray(image)
        Image.fromarray(change(label_HW)).save(file)


def turned(file: Path, orientation: int) -> None:
    """Give an image a tag of EXIF's that says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(file) as image:
        image.save(file, exif=exif)


def resolved(folder: Path, *, config: Path | None = None, sets: tuple[str, ...] = ()) -> Config:
    """The shipped config of the folder's layout, or another, as a run has it."""
    task = "ade20k" if (folder / "images").is_dir() else "coco"
    return resolve(
        config or DOWNSTREAM / CONFIGS[task],
        checkpoint="random:vit_demo_patch4_32",
        data=folder,
        seed=0,
        overrides=sets,
    )


def checked(folder: Path, *, config: Path | None = None, sets: tuple[str, ...] = ()) -> Checked:
    """What a run with the shipped config of the layout, or another, would find first."""
    return check(resolved(folder, config=config, sets=sets))


def changed_config(path: Path, task: str, *changes: tuple[str, str]) -> Path:
    """A copy of a shipped config with other text in it."""
    text = (DOWNSTREAM / CONFIGS[task]).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def fatal(found: Checked) -> str:
    """What a run would be refused for, on one line."""
    lines = [f"{fault.found}; {fault.fix}" for fault in found.faults if fault.fatal]
    assert all("\n" not in line for line in lines)
    return " | ".join(lines)
