"""What a record calls other data: other images by name and size, another truth by its content."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_sets import CONFIGS, changed_config, edit_file, resolved

from micl_bench.openmmlab import run
from micl_bench.openmmlab.data_digests import data_digests

TRAIN, VAL = "train_dataloader", "val_dataloader"


def digests(folder: Path, *, config: Path | None = None) -> dict[str, str]:
    return data_digests(resolved(folder, config=config))


def changed(before: dict[str, str], folder: Path, *, config: Path | None = None) -> list[str]:
    """The loaders whose data are others now."""
    now = digests(folder, config=config)
    return [name for name in before if now[name] != before[name]]


def reordered(content: Any) -> None:
    content["annotations"].reverse()


def relabelled(content: Any) -> None:
    for one in content["annotations"]:
        one["category_id"] = {1: 2, 2: 1}.get(one["category_id"], one["category_id"])


def moved(content: Any) -> None:
    box = content["annotations"][0]["bbox"]
    digit = str(box[0])[-1]
    box[0] = json.loads(f"{str(box[0])[:-1]}{(int(digit) + 1) % 9 + 1}")


@pytest.mark.parametrize("edit", [reordered, relabelled, moved])
@pytest.mark.parametrize(("split", "loader"), [("train2017", TRAIN), ("val2017", VAL)])
def test_an_annotation_file_of_the_same_size_is_other_data(
    coco: Path, edit: Callable[[Any], None], split: str, loader: str
) -> None:
    before = digests(coco)
    file = coco / f"annotations/instances_{split}.json"
    size = file.stat().st_size
    edit_file(file, edit)
    assert file.stat().st_size == size
    assert changed(before, coco) == [loader]


@pytest.mark.parametrize(("split", "loader"), [("training", TRAIN), ("validation", VAL)])
def test_a_mask_of_the_same_size_is_other_data(ade20k: Path, split: str, loader: str) -> None:
    file = sorted((ade20k / "annotations" / split).iterdir())[1]
    with Image.open(file) as image:
        label_HW = np.asarray(image)
    # Without compression every mask has the same size.
    Image.fromarray(label_HW).save(file, compress_level=0)
    before, size = digests(ade20k), file.stat().st_size
    Image.fromarray(np.where(label_HW == 0, 1, label_HW)).save(file, compress_level=0)
    assert file.stat().st_size == size
    assert changed(before, ade20k) == [loader]


def test_an_image_is_known_by_its_name_and_size(coco: Path, ade20k: Path) -> None:
    for data, folder, loader in (
        (coco, "train2017", TRAIN),
        (coco, "val2017", VAL),
        (ade20k, "images/training", TRAIN),
        (ade20k, "images/validation", VAL),
    ):
        before = digests(data)
        image = sorted((data / folder).iterdir())[1]
        content = image.read_bytes()
        image.write_bytes(bytes(reversed(content)))
        assert changed(before, data) == []
        image.write_bytes(content + b"1")
        assert changed(before, data) == [loader]
        image.write_bytes(content)
        image.rename(image.with_name("other.jpg"))
        assert changed(before, data) == [loader]


def test_what_nobody_reads_is_no_part_of_the_data(coco: Path, tmp_path: Path) -> None:
    before = digests(coco)
    (coco / "train2017/.DS_Store").write_text("x")
    (coco / "val2017/.ipynb_checkpoints").mkdir()
    (coco / "val2017/.ipynb_checkpoints/1.jpg").write_text("x")
    (coco / "annotations/captions_val2017.json").write_text("{}")
    assert digests(coco) == before
    shutil.copytree(coco, tmp_path / "elsewhere")
    assert digests(tmp_path / "elsewhere") == before


def test_files_that_a_config_names_itself_count_by_content(
    coco: Path, ade20k: Path, tmp_path: Path
) -> None:
    file = coco / "annotations/few.json"
    shutil.copy(coco / "annotations/instances_train2017.json", file)
    config = changed_config(tmp_path / "few.py", "coco", ("instances_train2017", "few"))
    before = digests(coco, config=config)
    edit_file(file, reordered)
    assert changed(before, coco, config=config) == [TRAIN]

    names = ade20k / "some.txt"
    names.write_text("scene_1\nscene_2\n")
    config = changed_config(
        tmp_path / "some.py", "ade20k", ("dataset=dict(", "dataset=dict(ann_file='some.txt', ")
    )
    before = digests(ade20k, config=config)
    names.write_text("scene_1\nscene_3\n")
    assert changed(before, ade20k, config=config) == [TRAIN, VAL]


@pytest.mark.long
def test_a_record_and_a_saved_training_name_what_was_read(coco: Path, tmp_path: Path) -> None:
    def outcome(out: Path) -> Any:
        return run(
            CONFIGS["coco"],
            checkpoint="random:vit_demo_patch4_32",
            data=coco,
            work_dir=out,
            overrides=("train_cfg.max_iters=1", "auto_scale_lr.base_batch_size=2"),
        )

    first = outcome(tmp_path / "first")
    assert {name: one["digest"] for name, one in first.data.items()} == digests(coco)
    claim = json.loads((tmp_path / "first/recipe.json").read_text())
    assert claim["train_digest"] == first.data[TRAIN]["digest"]
    assert first.data[VAL]["digest"] not in claim.values()
    edit_file(coco / "annotations/instances_train2017.json", reordered)
    second = outcome(tmp_path / "second")
    assert second.data[TRAIN]["digest"] != first.data[TRAIN]["digest"]
    assert second.data[VAL]["digest"] == first.data[VAL]["digest"]
