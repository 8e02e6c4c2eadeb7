"""COCO 2017 in its released layout, small: sound, and with each fault that people met."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from micl_bench.data import json_stream
from micl_bench.doctor import Finding, _coco, check_data
from micl_bench.doctor._coco_categories import CATEGORIES

SIZES = {"train2017": 5, "val2017": 3}
WITH_OBJECTS = {"train2017": 4, "val2017": 2}
WIDTH, HEIGHT = 64, 48
_ZIP = "annotations_trainval2017.zip"


def annotation(number: int, image: int, category: int) -> dict[str, Any]:
    """As the release's: an outline, and the box around it, rounded."""
    left, top = 3.5 + number % 7, 2.25 + number % 5
    right, bottom = left + 20.5, top + 12.0
    return {
        "segmentation": [[left, top, right, top + 1.5, right - 4, bottom]],
        "area": 100.0,
        "iscrowd": 0,
        "image_id": image,
        "bbox": [left, top, right - left, bottom - top],
        "category_id": category,
        "id": number,
    }


def crowd(number: int, image: int) -> dict[str, Any]:
    """Crowds are run lengths over the whole image."""
    one = annotation(number, image, 1)
    counts = [100, 50, HEIGHT * WIDTH - 150]
    return {**one, "iscrowd": 1, "segmentation": {"counts": counts, "size": [HEIGHT, WIDTH]}}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 categories by their ids; the last image of each split has no object. Read only."""
    folder = tmp_path_factory.mktemp("released") / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split, number in SIZES.items():
        first = 100 if split == "val2017" else 1
        (folder / split).mkdir()
        images: list[dict[str, Any]] = [
            {
                "id": first + i,
                "file_name": f"{first + i:012d}.jpg",
                "width": WIDTH,
                "height": HEIGHT,
            }
            for i in range(number)
        ]
        for image in images:
            Image.new("RGB", (WIDTH, HEIGHT)).save(folder / split / image["file_name"])
        with_objects = [image["id"] for image in images[: WITH_OBJECTS[split]]]
        # Half of them persons.
        named = [one for category in CATEGORIES for one in (category, 1)]
        annotations = [
            annotation(first * 1000 + index, with_objects[index % len(with_objects)], category)
            for index, category in enumerate(named)
        ]
        content = {
            "info": {"year": 2017},
            "licenses": [],
            "images": images,
            "annotations": [*annotations, crowd(first * 1000 + 999, with_objects[0])],
            "categories": [
                {"supercategory": "x", "id": number, "name": name}
                for number, name in CATEGORIES.items()
            ],
        }
        write(folder, split, content)
    return folder


@pytest.fixture
def data(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, of the size that counts as whole."""
    monkeypatch.setattr(_coco, "IMAGES", SIZES)
    monkeypatch.setattr(_coco, "WITH_OBJECTS", WITH_OBJECTS)
    return Path(shutil.copytree(released, tmp_path / "coco"))


def read(folder: Path, split: str = "val2017") -> Any:
    return json.loads((folder / f"annotations/instances_{split}.json").read_text(encoding="utf-8"))


def write(folder: Path, split: str, content: Any) -> None:
    file = folder / f"annotations/instances_{split}.json"
    file.write_text(json.dumps(content), encoding="utf-8")


def spoil(folder: Path, edit: Callable[[Any], Any]) -> list[Finding]:
    """What is found after the validation file was edited in place."""
    content = read(folder)
    edit(content)
    write(folder, "val2017", content)
    return problems(folder)


def each(edit: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An edit of every annotation."""
    return lambda content: [edit(one) for one in content["annotations"]]


def problems(folder: Path) -> list[Finding]:
    found = [one for one in check_data(folder) if one.level != "ok"]
    assert all(one.mend for one in found)
    return found


def test_the_release_is_known() -> None:
    """Category names against torchvision's, whose list has N/A for every id that is not used."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    assert _coco.IMAGES == {"train2017": 118_287, "val2017": 5_000}
    assert _coco.WITH_OBJECTS == {"train2017": 118_287 - 1_021, "val2017": 4_952}
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    used = {n: name for n, name in enumerate(names) if name not in ("N/A", "__background__")}
    assert used == CATEGORIES
    assert len(CATEGORIES) == 80


def test_sound_data_are_counted_and_nothing_else(data: Path) -> None:
    found = check_data(data.parent)
    assert [(one.level, one.found) for one in found] == [
        ("ok", "COCO: 5 images, 4 of them with objects"),
        ("ok", "COCO: 3 images, 2 of them with objects"),
    ]


def test_a_part_is_named_as_one(released: Path) -> None:
    found = check_data(released)
    assert [one.level for one in found] == ["warning", "warning"]
    assert found[1].found == "COCO: 3 images, 2 of them with objects: a part of COCO"


def test_annotations_without_the_images_that_have_no_object(data: Path) -> None:
    content = read(data)
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] == 100]
    write(data, "val2017", content)
    (one,) = problems(data)
    assert (one.level, one.found) == ("warning", "1 image with objects; the release has 2")


def test_what_is_called_like_an_image_and_is_no_file_is_not_read(data: Path) -> None:
    """A pipe would be waited for without end."""
    folder = data / "val2017"
    for name in ("000000000100.jpg", "000000000101.jpg"):
        (folder / name).unlink()
    os.mkfifo(folder / "000000000100.jpg")
    (folder / "000000000101.jpg").mkdir()
    os.mkfifo(folder / "z.jpg")
    found = [one.found for one in problems(data)]
    assert found == [
        f"2 images in {folder} are no files: 000000000100.jpg, 000000000101.jpg",
        f"1 file in {folder} that the annotations do not name: z.jpg",
    ]


def test_images_and_annotations_of_different_releases(data: Path) -> None:
    (data / "val2017/000000000101.jpg").rename(data / "val2017/COCO_val2014_000000000101.jpg")
    found = problems(data)
    assert [one.level for one in found] == ["problem", "warning"]
    assert "1 image of the annotations not in" in found[0].found
    assert found[0].found.endswith("000000000101.jpg")
    assert found[1].found.endswith(
        "that the annotations do not name: COCO_val2014_000000000101.jpg"
    )


def test_one_split_in_both_places(data: Path) -> None:
    shutil.copytree(data / "val2017", data / "train2017", dirs_exist_ok=True)
    write(data, "train2017", read(data))
    found = problems(data)[-1]
    assert found.found.startswith("3 images are in both splits, so that training sees them")


@pytest.mark.parametrize("start", [0, 1])
def test_categories_that_were_renumbered(data: Path, start: int) -> None:
    """Annotations and categories agree, and yet no other file of COCO's fits."""
    new = {old: number for number, old in enumerate(CATEGORIES, start)}

    def renumber(content: Any) -> None:
        for one in content["annotations"]:
            one["category_id"] = new[one["category_id"]]
        for one in content["categories"]:
            one["id"] = new[one["id"]]

    found = spoil(data, renumber)[0]
    assert found.found.startswith(f"wrong label offset: categories are renumbered {start} to ")


@pytest.mark.parametrize("shift", [-1, 1])
def test_annotations_shifted_against_their_categories(data: Path, shift: int) -> None:
    (one,) = spoil(data, each(lambda one: one.update(category_id=one["category_id"] + shift)))
    assert "as by a wrong label offset: category_id" in one.found
    listed = f"ids in use are {1 + shift} to {90 + shift}, listed are 1 to 90"
    assert listed in one.found


def test_annotations_renumbered_without_their_categories(data: Path) -> None:
    """1 to 80 are within 1 to 90, but some of them are gaps."""
    new = {old: number for number, old in enumerate(CATEGORIES, 1)}
    (one,) = spoil(data, each(lambda one: one.update(category_id=new[one["category_id"]])))
    assert "as by a wrong label offset: category_id 12, 26, 29, ..." in one.found


def test_labels_that_were_shuffled(data: Path) -> None:
    other = dict(zip(CATEGORIES, [*list(CATEGORIES)[5:], *list(CATEGORIES)[:5]], strict=True))
    (one,) = spoil(data, each(lambda one: one.update(category_id=other[one["category_id"]])))
    assert "the most frequent category is 6 (bus), in COCO it is person" in one.found


def test_categories_in_another_order(data: Path) -> None:
    (one,) = spoil(data, lambda content: content["categories"].reverse())
    assert "categories in another order: toothbrush, hair drier" in one.found


def test_a_category_with_another_name_or_id(data: Path) -> None:
    (one,) = spoil(data, lambda content: content["categories"][62].update(name="tvmonitor"))
    assert one.found == "80 categories, without tv: classes are found by name"

    def swap(content: Any) -> None:
        content["categories"][62]["name"] = content["categories"][0]["name"]
        content["categories"][0]["name"] = "tv"

    (one,) = spoil(data, swap)
    assert one.found == "2 categories with other ids: 1 is tv, 72 is person"


def test_own_data_in_cocos_layout_are_no_broken_coco(embedded: Path, tmp_path: Path) -> None:
    shutil.copytree(embedded / "embedded-coco", tmp_path / "own")
    found = problems(tmp_path / "own")
    assert {one.level for one in found} == {"warning"}
    texts = [one.found for one in found]
    assert "10 categories, none of them COCO's: digit_0, digit_1, digit_2, ..." in texts


def test_the_embedded_scenes_are_sound(embedded: Path) -> None:
    found = check_data(embedded / "embedded-coco")
    assert [one.level for one in found] == ["ok"] * 3
    assert found[1].found == "COCO: 240 images, 240 of them with objects"


def test_boxes_as_two_corners(data: Path) -> None:
    def corners(one: Any) -> None:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x, y, x + width, y + height]

    (one,) = spoil(data, each(corners))
    assert "two corners (x1, y1, x2, y2)" in one.found


def test_boxes_out_of_their_images_and_boxes_without_area(data: Path) -> None:
    (one,) = spoil(data, lambda content: content["annotations"][5]["bbox"].__setitem__(2, 99.0))
    assert one.found.startswith("1 of 161 boxes reaches out of its image: annotation 100005 has")
    (one,) = spoil(data, lambda content: content["annotations"][5]["bbox"].__setitem__(2, 0.0))
    assert one.found.startswith("1 of 161 boxes has no area")


def test_images_or_boxes_that_were_scaled(data: Path) -> None:
    image = data / "val2017/000000000100.jpg"
    Image.new("RGB", (32, 24)).save(image)
    (one,) = problems(data)
    assert one.found == (
        "1 of 3 images has another size than the annotation file says: 000000000100.jpg is 32 x 24, "
        "its entry 64 x 48"
    )
    shutil.copy(data / "val2017/000000000101.jpg", image)
    halved = each(lambda one: one.update(bbox=[0.5 * value for value in one["bbox"]]))
    (one,) = spoil(data, halved)
    assert "where the box does: outlines or boxes were scaled" in one.found


def test_a_mask_that_was_scaled_down(data: Path) -> None:
    small = {"counts": [10, 5, 24 * 32 - 15], "size": [24, 32]}
    (one,) = spoil(data, lambda content: content["annotations"][-1].update(segmentation=small))
    assert one.found == (
        "1 mask has another size than the image: annotation 100999 has a mask of 32 x 24, its "
        "image is 64 x 48"
    )


def test_annotations_without_masks(data: Path) -> None:
    (one,) = spoil(data, each(lambda one: one.pop("segmentation")))
    assert one.found == "161 of 161 annotations have no segmentation"


def test_captions_are_no_instances(data: Path) -> None:
    def caption(content: Any) -> None:
        del content["categories"]
        content["annotations"] = [
            {"image_id": image, "id": image, "caption": "a"} for image in (100, 101)
        ]

    (one,) = spoil(data, caption)
    assert one.found.startswith(
        "its annotations have no bbox and no category_id (the first has caption, id, image_id"
    )
    assert "a file of objects with boxes" in one.mend


def test_ids_that_pycocotools_counts_wrongly(data: Path) -> None:
    (one,) = spoil(data, lambda content: content["annotations"][3].update(id=0))
    assert "id 0, which pycocotools counts as missed" in one.found
    (one,) = spoil(data, lambda content: content["annotations"][3].update(id=100_004))
    assert "1 annotation has an id that another one has too" in one.found


def test_pycocotools_counts_id_0_as_missed() -> None:
    """The reason for the check: two objects found exactly, and half the recall."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def recall(ids: tuple[int, int]) -> float:
        boxes = [[0.0, 0.0, 9.0, 9.0], [20.0, 20.0, 9.0, 9.0]]
        entries = [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 81.0, "iscrowd": 0}
            for i, box in zip(ids, boxes, strict=True)
        ]
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1, "width": 64, "height": 48}],
            "annotations": entries,
            "categories": [{"id": 1, "name": "person"}],
        }
        truth.createIndex()
        found = [{**one, "score": 0.9} for one in entries]
        run = COCOeval(truth, truth.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        return float(run.eval["recall"][0, 0, 0, -1])

    assert recall((1, 2)) == 1.0
    assert recall((0, 1)) == 0.5


def test_annotations_of_images_that_are_not_listed(data: Path) -> None:
    found = spoil(data, lambda content: content["annotations"][3].update(image_id=7))
    assert found[0].found.startswith("1 annotation is of images that the file does not list")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'{' expected, not 'the end of the file'"),
        ("[]", "'{' expected, not '['"),
        ("{}", "no images in it"),
        ('{"images": [{"id": 1, "file_na', "Unterminated string"),
        ('{"images": [{"id": 1}]}', "images[0] has no key 'file_name'"),
        ('{"images": [{"id": "1"}]}', "images[0].id is '1', no whole number"),
        ('{"images": {"id": 1}}', "images is {'id': 1}, no list"),
        ('{"images": [{"id": 1, "file_name": "/etc/a.jpg"}]}', "not below the folder of images"),
        ('{"images": [], "images": []}', "'images' twice"),
        (
            '{"annotations": [{"image_id": 1, "bbox": [1], "category_id": 1}]}',
            "annotations[0].bbox",
        ),
        ('{"annotations": [{"image_id": NaN}]}', "NaN is no number of JSON's"),
        ('{"annotations": [{"image_id": 1' + "0" * 5000 + "}]}", "no COCO file"),
        ('{"annotations": [7]}', "annotations[0] is 7, no object with keys"),
        ("[" * 100_000, "'{' expected"),
        ('{"a": ' + "[" * 100_000, "it is nested too deeply"),
    ],
)
def test_files_that_are_no_annotations(data: Path, text: str, words: str) -> None:
    (data / "annotations/instances_val2017.json").write_text(text, encoding="utf-8")
    (one,) = problems(data)
    assert "instances_val2017.json is no COCO file" in one.found
    assert words in one.found


def test_a_file_that_is_missing(data: Path) -> None:
    file = data / "annotations/instances_val2017.json"
    file.unlink()
    (one,) = problems(data)
    assert one.found == f"there is no {file}"
    assert _ZIP in one.mend


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_entries_are_jsons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Against Python's own reading of the whole, in pieces that end anywhere."""
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    content = {
        "info": {"a": [1, {"b": None}], "é": '"\\]},'},
        "empty": [],
        "list": [1, -2.5e-3, 12345, "x", [], {}, True, [[1, 2], [3]]],
        "number": 120,
        "last": None,
    }
    file = tmp_path / "x.json"
    for indent in (None, 2):
        file.write_text(json.dumps(content, indent=indent), encoding="utf-8")
        found: dict[str, Any] = {"empty": []}
        for key, place, value in json_stream.entries(file):
            if isinstance(content[key], list):
                assert place == len(found.get(key, []))
                found.setdefault(key, []).append(value)
            else:
                found[key] = value
        assert found == content


def test_an_entry_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 10)
    monkeypatch.setattr(json_stream, "_LONGEST", 1 << 12)
    file = tmp_path / "x.json"
    file.write_text('{"images": ["' + "a" * 100_000 + '"]}', encoding="utf-8")
    with pytest.raises(ValueError, match="Unterminated"):
        list(json_stream.entries(file))
