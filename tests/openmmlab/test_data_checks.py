"""Data of dense tasks that would fail a run or give a wrong number are found before it begins."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_sets import CONFIGS, changed_config, checked, edit, fatal, refused, resolved, small_coco

from micl_bench.openmmlab import Outcome, data_checks, run
from micl_bench.runtime.errors import InputError


def reverse(content: Any) -> None:
    content["categories"].reverse()


def renumber(content: Any) -> None:
    new = {one["id"]: 7 * one["id"] % 11 + 50 for one in content["categories"]}
    for one in content["categories"]:
        one["id"] = new[one["id"]]
    for one in content["annotations"]:
        one["category_id"] = new[one["category_id"]]


def lose_a_class(content: Any) -> None:
    lost = content["categories"].pop(3)["id"]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != lost]


def every(key: str, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for one in content["annotations"]:
            if value is None:
                one.pop(key)
            else:
                one[key] = copy.deepcopy(value)

    return change


def test_sound_data_are_sound_and_the_truth_has_100(coco: Path, ade20k: Path) -> None:
    found = checked(coco)
    assert not found.faults
    assert found.left_out == {}
    assert found.images == {"train_dataloader": 8, "val_dataloader": 4}
    assert found.truth == dict.fromkeys(
        ("box_AP", "box_AP50", "box_AP75", "mask_AP", "mask_AP50", "mask_AP75"), 100.0
    )
    assert checked(ade20k).truth == {"mIoU": 100.0, "mAcc": 100.0, "aAcc": 100.0}


def test_data_that_passed_are_not_checked_again(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "states" / "checked.json"

    def sound(inputs: str) -> data_checks.Checked:
        config = resolved(coco)
        return data_checks.require_sound(config, "config.py", remembered=path, inputs=inputs)

    (coco / "val2017/more.jpg").touch()
    found = sound("these")
    found.remember(path, "these")
    monkeypatch.setattr(data_checks, "check", lambda config: pytest.fail("checked again"))
    again = sound("these")
    assert (again.truth, again.left_out) == (found.truth, found.left_out)
    assert found.left_out
    for content, inputs in ((path.read_text(), "others"), ("{", "these")):
        path.write_text(content)
        with pytest.raises(pytest.fail.Exception, match="checked again"):
            sound(inputs)


@pytest.fixture(scope="module")
def as_it_is(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a short run measures on sound data."""
    folder = tmp_path_factory.mktemp("sound")
    return measured(small_coco(embedded, folder / "coco"), folder / "out")


def coco_run(data: Path, out: Path, *overrides: str) -> Outcome:
    vit = "random:vit_demo_patch4_32"
    return run(CONFIGS["coco"], checkpoint=vit, data=data, work_dir=out, overrides=overrides)


def measured(data: Path, out: Path) -> dict[str, Any]:
    outcome = coco_run(data, out, "train_cfg.max_iters=2", "auto_scale_lr.base_batch_size=2")
    with np.load(outcome.evidence) as arrays:
        scores = {name: arrays[name] for name in ("bbox.score", "bbox.matched", "object.count")}
    return {"metrics": outcome.metrics, **scores}


@pytest.mark.parametrize(
    ("change", "splits"),
    [
        (reverse, ["val2017"]),
        pytest.param(reverse, ["train2017"], marks=pytest.mark.long),
        pytest.param(every("iscrowd", None), ["train2017", "val2017"], marks=pytest.mark.long),
    ],
)
def test_the_number_is_the_same_in_whatever_order_categories_are_listed(
    coco: Path, tmp_path: Path, as_it_is: dict[str, Any], change: Any, splits: list[str]
) -> None:
    found = measured(edit(coco, change, *splits), tmp_path / "out")
    assert found["metrics"] == as_it_is["metrics"]
    assert found["metrics"]["box_AP50"] > 0
    for name in ("bbox.score", "bbox.matched", "object.count"):
        np.testing.assert_array_equal(found[name], as_it_is[name])


@pytest.mark.parametrize("splits", [["train2017"], ["val2017"], ["train2017", "val2017"]])
def test_other_ids_are_the_same_classes(coco: Path, splits: list[str]) -> None:
    found = checked(edit(coco, renumber, *splits))
    assert not found.faults
    assert found.truth["mask_AP"] == 100.0


@pytest.mark.parametrize(
    ("change", "splits", "words"),
    [
        (lose_a_class, ["train2017"], "instances_train2017.json has no category 'digit_3'"),
        (lose_a_class, ["val2017"], "instances_val2017.json has no category 'digit_3'"),
        (
            lambda content: content["categories"][2].update(name="Digit 2"),
            ["train2017", "val2017"],
            "has no category 'digit_2', which the config names among its 10 classes",
        ),
        (
            lambda content: content["categories"][2].update(name="digit_1"),
            ["val2017"],
            "categories[2].name is 'digit_1', which another entry has too",
        ),
        (every("category_id", 77), ["train2017"], "by a wrong label offset: category_id 77"),
        (
            every("area", None),
            ["train2017"],
            "missing required field `area` - at `$.annotations[0]`",
        ),
        (every("segmentation", [[1, 2, 3, 4]]), ["val2017"], "a polygon of 4 numbers"),
        (every("segmentation", None), ["train2017"], "annotations have no segmentation"),
        (every("iscrowd", 1), ["val2017"], "AP is undefined"),
        (lambda content: content.update(annotations=[]), ["val2017"], "it has no annotations"),
        (lambda content: content["annotations"][0].update(id=0), ["val2017"], "has id 0"),
    ],
)
def test_annotations_that_fit_no_config_are_refused(
    coco: Path, change: Any, splits: list[str], words: str
) -> None:
    assert words in fatal(checked(edit(coco, change, *splits)))


def test_classes_are_those_of_the_config_and_its_heads(coco: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    found = checked(coco, config=changed_config(config, "coco", ("range(10)", "range(9)")))
    assert not found.failed
    line = "annotations of no class of the config in instances_val2017.json: digit_9"
    assert line in found.left_out["val_dataloader"]
    for change, words in (
        (
            ("num_classes=len(classes)", "num_classes=9"),
            "bbox_head.num_classes is 9, the data set has 10 classes",
        ),
        (
            ("metainfo=dict(classes=classes),", ""),
            "num_classes is 10, the data set has 80 classes",
        ),
        (
            ("range(10))", "range(9)) + ('digit_0',)"),
            "the training set has a class twice: digit_0",
        ),
    ):
        refused(coco, changed_config(config, "coco", change), words)


@pytest.mark.parametrize("task", CONFIGS)
def test_training_and_validation_have_the_same_classes_in_one_order(
    coco: Path, ade20k: Path, tmp_path: Path, task: str
) -> None:
    text, data = "val_dataloader = dict(", {"coco": coco, "ade20k": ade20k}[task]
    for classes, words in (
        ("classes[::-1]", "different classes .*number 0 is 'digit_0' and 'digit_9'"),
        ("(*classes[:9], 'nine')", "'digit_9' only in the training set, 'nine' only in the val"),
    ):
        change = (text, f"classes = {classes}\n{text}")
        refused(data, changed_config(tmp_path / "config.py", task, change), words)


@pytest.mark.parametrize("lost", [100, 600])
@pytest.mark.parametrize("split", ["val2017", "validation"])
def test_a_truncated_validation_image_is_found_first(
    coco: Path, ade20k: Path, split: str, lost: int
) -> None:
    folder = coco / split if split == "val2017" else ade20k / "images" / split
    file = sorted(folder.iterdir())[2]
    file.write_bytes(file.read_bytes()[:-lost])
    found = fatal(checked(coco if split == "val2017" else ade20k))
    assert f"cannot be read: {file.name} (OSError: image file is truncated" in found


def test_an_image_that_is_missing_none_or_another_is_found_first(coco: Path) -> None:
    file = sorted((coco / "train2017").iterdir())[1]
    file.unlink()
    assert f"cannot be read: {file.name} (no such file)" in fatal(checked(coco))
    file.write_text("<html>")
    assert f"cannot be read: {file.name} (UnidentifiedImageError" in fatal(checked(coco))
    Image.new("RGB", (50, 40)).save(file)
    assert f"{file.name} is 50 x 40, its entry 96 x 96" in fatal(checked(coco))


@pytest.mark.long
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_images_that_exif_turns_are_refused_or_read_as_stored(
    coco: Path, ade20k: Path, tmp_path: Path, orientation: int
) -> None:
    """The scenes are square: the size tells nothing."""
    load = 'type="LoadImageFromFile"'
    stored = (load, f'{load}, color_type="color_ignore_orientation"')
    exif = Image.Exif()
    exif[0x0112] = orientation
    for task, data, folder in (
        ("coco", coco, "train2017"),
        ("ade20k", ade20k, "images/validation"),
    ):
        file = sorted((data / folder).iterdir())[1]
        with Image.open(file) as image:
            image.save(file, exif=exif)
        assert f"{file.name} (orientation {orientation})" in fatal(checked(data))
        config = changed_config(tmp_path / f"{task}.py", task, stored)
        assert not checked(data, config=config).faults


def test_files_of_other_names_are_counted(coco: Path, ade20k: Path) -> None:
    image = sorted((ade20k / "images/validation").iterdir())[1]
    image.rename(image.with_suffix(".JPG"))
    (ade20k / "images/training/notes.txt").touch()
    found = checked(ade20k)
    assert not found.faults
    assert found.left_out == {
        "train_dataloader": f"in {ade20k}/images/training 1 entry is not read: 1 that are no images by "
        "their suffix (.txt)",
        "val_dataloader": f"in {ade20k}/images/validation 1 image is not read, since only names "
        f"that end in .jpg are: {image.stem}.JPG",
    }
    (coco / "val2017/more.jpg").touch()
    (coco / "val2017/._hidden.jpg").touch()
    assert checked(coco).left_out == {
        "val_dataloader": f"in {coco}/val2017 1 image is not read, since "
        "instances_val2017.json lists others only: more.jpg; 1 entry is not read: 1 with a leading dot "
        "(._hidden.jpg)"
    }


def test_an_honest_ceiling_below_100_is_explained(coco: Path) -> None:
    def crowd(content: Any) -> None:
        first = content["annotations"][0]
        content["annotations"] += [{**first, "id": 100_000 + n} for n in range(130)]

    found = checked(edit(coco, crowd, "val2017"))
    assert not found.failed
    (fault,) = found.faults
    assert "the truth has box_AP" in fault.found
    assert "1 image has more than 100 objects of a class, of which 100 count" in fault.found
    assert 0 < found.truth["box_AP"] < 100


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_a_polygon_that_encloses_nothing_is_counted_and_the_truth_stays_whole(
    coco: Path, split: str
) -> None:
    def outlined(place: int) -> Callable[[Any], None]:
        def change(content: Any) -> None:
            one = content["annotations"][1]
            x, y, width, height = one["bbox"]
            outline = [x, y, x + width, y, x + width, y + height]
            one["segmentation"] = [outline]
            one["segmentation"].insert(place, [1, 2, 3, 4])

        return change

    found = checked(edit(coco, outlined(1), split))
    (fault,) = found.faults
    assert f"instances_{split}.json: 1 mask has a polygon of fewer than 6 numbers" in fault.found
    assert not fault.fatal
    assert found.truth["mask_AP"] == 100.0
    # In front of all others.
    assert checked(edit(coco, outlined(0), split)).failed == (split == "val2017")


def test_that_images_are_evaluated_one_by_one_is_said_at_once(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (coco / "val2017").rename(coco / "elsewhere")
    (coco / "val2017").mkdir()
    for images in (1, 3):
        with pytest.raises(InputError, match="no such file"):
            coco_run(coco, tmp_path / "out", f"val_dataloader.batch_size={images}")
        said = capsys.readouterr().err
        line = f"val_dataloader.batch_size={images} reads that many images at a time; each is eval"
        assert said.count(line) == (images > 1)


def test_a_pipeline_that_loses_the_truth_is_found_first(
    coco: Path, ade20k: Path, tmp_path: Path
) -> None:
    loads, scales = (
        f"    dict(type={rest}),\n"
        for rest in ('"LoadAnnotations"', '"Resize", scale=(side, side), keep_ratio=True')
    )
    late = (f"{scales}{loads}", f"{loads}{scales}")
    config = changed_config(tmp_path / "ade20k.py", "ade20k", late)
    assert "put LoadAnnotations behind Resize" in fatal(checked(ade20k, config=config))
    meta = ('meta_keys=("img_id", ', "meta_keys=(")
    config = changed_config(tmp_path / "meta.py", "coco", meta)
    assert "gives no img_id" in fatal(checked(coco, config=config))


@pytest.mark.long
def test_nothing_that_happens_to_the_files_is_an_error_of_ours(coco: Path) -> None:
    """15 spoilt files through everything that a run would do with them before it trains."""
    rng = random.Random(1)
    file = coco / "annotations/instances_val2017.json"
    sound = json.loads(file.read_text())
    strange = [None, True, -1, 0, 0.5, 1e300, "", "x", [], [[]], {}, [1, 2], [[1, 2, 3, 4]]]
    taken = failed = 0
    for _ in range(15):
        content = copy.deepcopy(sound)
        entry = rng.choice([*content["images"], *content["categories"], *content["annotations"]])
        key = rng.choice(list(entry))
        if rng.random() < 0.3:
            del entry[key]
        else:
            entry[key] = copy.deepcopy(rng.choice(strange))
        file.write_text(json.dumps(content))
        found = checked(coco)
        failed += found.failed
        taken += bool(found.truth)
        assert found.failed != bool(found.truth)
    assert taken
    assert failed
