"""Which inputs tell one call from another, for tasks of every kind."""

from pathlib import Path

import pytest
from support import REPOSITORY

from micl_bench.tasks import Request
from micl_bench.tasks._out import inputs_of

RANDOM = "random:vit_demo_patch4_32"


def inputs(task: str, data: Path, recipe: Path | None, *overrides: str) -> dict[str, str]:
    places = {"data": data, "out": data.parent / "out", "recipe": recipe}
    return inputs_of(Request(checkpoint=RANDOM, overrides=overrides, **places), task)


def written(path: Path, text: str = "1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("task", "read", "not_read"),
    [
        ("knn", ("train/a/1.png", "val/a/1.png"), "test/a/1.png"),
        ("finetune", ("train/a/1.png", "val/a/1.png"), "test/a/1.png"),
        (
            "robustness",
            ("embedded-a/a/1.png", "embedded-sketch/b/1.png", "embedded/val/a/1.png"),
            "embedded/train/a/1.png",
        ),
    ],
)
def test_images_that_a_task_reads_count_and_others_do_not(
    tmp_path: Path, task: str, read: tuple[str, ...], not_read: str
) -> None:
    data = tmp_path / "data"
    before = inputs(task, data, None)
    for name in read:
        image = written(data / name)
        now = inputs(task, data, None)
        assert now["data"] != before["data"], name
        written(image, "11")
        before = inputs(task, data, None)
        assert now["data"] != before["data"], name
    written(data / not_read)
    (data / "train").mkdir(exist_ok=True)
    (data / "train" / "round").symlink_to(data / "train")
    assert inputs(task, data, None) == before


def test_a_list_of_labels_counts_by_its_content(tmp_path: Path) -> None:
    labels = written(tmp_path / "1percent.txt", "a.png\n")
    first = inputs("linear", tmp_path, None, f"labels={labels}")
    labels.write_text("b.png\n")
    second = inputs("linear", tmp_path, None, f"labels={labels}")
    assert first["recipe"] != second["recipe"]
    assert first["data"] == second["data"]


def test_a_store_counts_by_what_it_says_is_in_it(tmp_path: Path) -> None:
    header = written(tmp_path / "train" / "store.json", '{"sha256": "1"}')
    first = inputs("knn", tmp_path, None)
    header.write_text('{"sha256": "2"}')
    assert inputs("knn", tmp_path, None)["data"] != first["data"]


@pytest.mark.parametrize(
    ("task", "file", "read", "label"),
    [
        (
            "ade20k",
            "embedded_upernet.py",
            "images/training/1.jpg",
            "annotations/validation/1.png",
        ),
        ("coco", "embedded_mask_rcnn.py", "val2017/1.jpg", "annotations/instances_train2017.json"),
    ],
)
def test_a_config_counts_with_what_it_is_based_on(
    tmp_path: Path, task: str, file: str, read: str, label: str
) -> None:
    pytest.importorskip("mmengine")
    own = tmp_path / "configs"
    base = written(own / "base.py", (REPOSITORY / "downstream" / file).read_text())
    config = written(own / "config.py", '_base_ = "base.py"\n')
    data = tmp_path / "data"
    label = written(data / label)
    first = inputs(task, data, config)
    assert inputs(task, data, config) == first
    # Labels count by content, images by size.
    label.write_text("2")
    second = inputs(task, data, config)
    assert second["data"] != first["data"]
    image = written(data / read)
    first, second = second, inputs(task, data, config)
    image.write_text("2")
    assert inputs(task, data, config) == second
    assert second["data"] != first["data"]
    assert second["recipe"] == first["recipe"]
    base.write_text(base.read_text() + "\ntrain_cfg.update(max_iters=3)\n")
    assert inputs(task, data, config)["recipe"] != first["recipe"]


def test_labels_that_a_mapping_tells_count_by_content(tmp_path: Path) -> None:
    mapping = written(tmp_path / "objectnet-1.0/mappings/folder_to_objectnet_label.json", "12")
    first = inputs("robustness", tmp_path, None, "sets=[objectnet]")
    mapping.write_text("21")
    assert inputs("robustness", tmp_path, None, "sets=[objectnet]")["data"] != first["data"]
