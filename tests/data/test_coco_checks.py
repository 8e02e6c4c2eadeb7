"""COCO files as converters and hands write them: what is wrong is named, whatever it is."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from micl_bench.data.coco_checks import check_annotations, check_images, image_headers, opened
from micl_bench.data.coco_file import CocoFile, read_coco
from micl_bench.data.coco_masks import mask_fault
from micl_bench.data.faults import Fault

WIDTH, HEIGHT = 40, 30


def sound() -> dict[str, Any]:
    """Two images, two categories, three objects."""
    box = [4.0, 3.0, 12.0, 9.0]
    outline = [4.0, 3.0, 16.0, 3.0, 16.0, 12.0]
    one = {"bbox": box, "area": 54.0, "iscrowd": 0, "segmentation": [outline]}
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in (1, 2)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {**copy.deepcopy(one), "id": n, "image_id": 1 + n % 2, "category_id": (7, 9)[n % 2]}
            for n in (1, 2, 3)
        ],
    }


def faults(folder: Path, content: Any) -> str:
    """Everything that is found, on one line; empty where the file is sound."""
    file = folder / "instances.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    read = opened(file)
    found = [read] if isinstance(read, Fault) else list(check_annotations(read))
    assert all(fault.fix for fault in found)
    return "; ".join(fault.found for fault in found)


def change(place: str, key: str, value: Any) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        content[place][1][key] = value

    return edit


def drop(place: str, key: str) -> Callable[[Any], None]:
    return lambda content: content[place][1].pop(key)


def test_a_sound_file_has_no_fault(tmp_path: Path) -> None:
    assert not faults(tmp_path, sound())


def test_iscrowd_is_0_where_it_is_not_there(tmp_path: Path) -> None:
    content = sound()
    for one in content["annotations"]:
        del one["iscrowd"]
    assert not faults(tmp_path, content)
    assert list(read_coco(tmp_path / "instances.json").crowds) == [0, 0, 0]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (drop("images", "id"), "images[1] has no key 'id'"),
        (drop("images", "file_name"), "images[1] has no key 'file_name'"),
        (drop("images", "width"), "images[1] has no key 'width'"),
        (drop("categories", "name"), "categories[1] has no key 'name'"),
        (drop("annotations", "id"), "annotations[1] has no key 'id'"),
        (drop("annotations", "image_id"), "annotations[1] has no key 'image_id'"),
        (drop("annotations", "category_id"), "annotations[1] has no key 'category_id'"),
        (drop("annotations", "bbox"), "annotations[1] has no key 'bbox'"),
        (drop("annotations", "area"), "annotations[1] has no key 'area'"),
        (drop("annotations", "segmentation"), "1 of 3 annotations has no segmentation"),
        (change("images", "width", 40.5), "images[1].width is 40.5, no whole number"),
        (change("images", "height", 0), "images[1] is 40 x 0 pixels large"),
        (change("images", "id", 1), "images[1].id is 1, which another image has too"),
        (change("images", "file_name", ""), "images[1].file_name is '', no name"),
        (change("images", "file_name", "../1.jpg"), "not below the folder of images"),
        (change("categories", "id", 7), "categories[1].id is 7, which another category has too"),
        (change("categories", "name", "cat"), "categories[1].name is 'cat', which another"),
        (change("categories", "name", "\ud800"), "categories[1].name is '\\ud800', no name"),
        (change("annotations", "bbox", [1, 2, 3]), "annotations[1].bbox is [1, 2, 3]; 4 numbers"),
        (change("annotations", "bbox", [1, 2, -3, 4]), "of negative size"),
        (change("annotations", "bbox", [1, "2", 3, 4]), "annotations[1].bbox is [1, '2', 3, 4]"),
        (change("annotations", "bbox", [1, 2, 10**400, 4]), "annotations[1].bbox is [1, 2, 1000"),
        (change("annotations", "bbox", [float("nan")] * 4), "NaN is no number of JSON's"),
        (change("annotations", "area", "54"), "annotations[1].area is '54', no number of pixels"),
        (change("annotations", "iscrowd", "no"), "annotations[1].iscrowd is 'no'; 0 or 1"),
        (
            change("annotations", "image_id", 5),
            "1 annotation is of images that the file does not list: annotation 2 is of image 5",
        ),
        (
            change("annotations", "category_id", 8),
            "as by a wrong label offset: category_id 8",
        ),
        (change("annotations", "id", 1), "1 annotation has an id that another one has too"),
        (change("annotations", "id", 0), "id 0, which pycocotools counts as missed"),
        (change("annotations", "id", 1.0), "annotations[1].id is 1.0, no whole number"),
        (change("annotations", "segmentation", [[1, 2, 3, 4]]), "a polygon of 4 numbers"),
        (change("annotations", "segmentation", [[1] * 7]), "a polygon of 7 numbers"),
        (change("annotations", "segmentation", [["a"] * 6]), "what is no pixel's place"),
        (change("annotations", "segmentation", "a text"), "is a text, neither"),
        (change("annotations", "segmentation", {"counts": [5]}), "without 'size'"),
        (
            change("annotations", "segmentation", {"counts": [5], "size": [HEIGHT, WIDTH]}),
            "run lengths of 5 pixels in all for a mask of [30, 40]",
        ),
        (
            change("annotations", "segmentation", {"counts": "\x00~~", "size": [HEIGHT, WIDTH]}),
            "neither whole numbers nor a text of COCO's",
        ),
        (
            change("annotations", "segmentation", {"counts": [200], "size": [10, 20]}),
            "annotation 2 has a mask of 20 x 10, its image is 40 x 30",
        ),
        (lambda content: content.pop("images"), "no images in it"),
        (lambda content: content.update(images=[]), "no images in it"),
        (lambda content: content.update(annotations=[]), "it has no annotations"),
        (lambda content: content.pop("categories"), "it lists no categories"),
        (
            lambda content: content.update(annotations={"1": {}}),
            "annotations is {'1': {}}, no list",
        ),
        (lambda content: content["images"].append(None), "images[2] is None, no object with keys"),
    ],
)
def test_every_fault_is_named_with_its_entry_and_key(
    tmp_path: Path, edit: Callable[[Any], None], words: str
) -> None:
    content = sound()
    edit(content)
    assert words in faults(tmp_path, content)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (json.dumps(sound()).encode()[:-40], "no COCO file"),
        (json.dumps(sound()).encode("utf-16"), "it is not UTF-8"),
        (json.dumps(sound()).replace("cat", "k\xe4tze").encode("latin-1"), "no COCO file"),
        (b"\x89PNG\r\n", "it is not UTF-8"),
        (b"<html></html>", "'{' expected, not '<'"),
        (json.dumps(sound()).encode() + b"}", "'}' after its end"),
    ],
)
def test_what_is_no_json_is_named_as_that(tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "instances.json"
    file.write_bytes(data)
    read = opened(file)
    assert isinstance(read, Fault)
    assert str(file) in read.found
    assert words in read.found
    assert "\n" not in read.found


def test_boxes_in_shares_of_the_image_are_no_boxes_in_pixels(tmp_path: Path) -> None:
    """mmdetection drops boxes below a pixel: all of them, without a word."""
    content = sound()
    for one in content["annotations"]:
        one["bbox"] = [0.1, 0.1, 0.3, 0.3]
    assert "3 of 3 annotations have an area of 0 or a box less than a pixel" in faults(
        tmp_path, content
    )


def test_masks_are_no_fault_of_a_set_of_boxes(tmp_path: Path) -> None:
    content = sound()
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    del content["annotations"][1]["segmentation"]
    assert faults(tmp_path, content)
    assert not list(check_annotations(read_coco(tmp_path / "instances.json"), masks=False))


TRIANGLE = [4.0, 3.0, 16.0, 3.0, 16.0, 12.0]


@pytest.mark.parametrize("stray", [[1, 2, 3, 4], [1.5, 2.5], [7, 7, 7], [], [1, 2, 3, 4, 5]])
def test_a_polygon_that_encloses_nothing_is_no_fault_beside_one_that_does(
    tmp_path: Path, stray: list[float]
) -> None:
    """At one of at most four numbers that comes first pycocotools fails, mmdetection does not."""
    for place, evaluated in ((1, True), (1, False), (0, False), (0, True)):
        fatal = evaluated and place == 0 and len(stray) < 5
        content = sound()
        outlines = [TRIANGLE, TRIANGLE]
        outlines[place] = stray
        content["annotations"][1]["segmentation"] = outlines
        words = f"a polygon of fewer than {5 if fatal else 6} numbers"
        faults(tmp_path, content)
        (one,) = check_annotations(read_coco(tmp_path / "instances.json"), evaluated=evaluated)
        assert one.fatal == fatal
        assert words in one.found
        assert "annotation 2" in one.found


def test_pycocotools_and_mmdetection_see_no_pixel_of_such_a_polygon() -> None:
    transforms = pytest.importorskip("mmdet.datasets.transforms")
    rng = np.random.default_rng(0)
    for _ in range(300):
        outline, stray = rng.uniform(-5, 45, size=8).tolist(), rng.uniform(-9, 60, 4).tolist()
        alone = coco_masks.merge(coco_masks.frPyObjects([outline], HEIGHT, WIDTH))
        both = coco_masks.merge(coco_masks.frPyObjects([outline, stray], HEIGHT, WIDTH))
        assert both == alone
        with pytest.raises(TypeError):
            coco_masks.frPyObjects([stray, outline], HEIGHT, WIDTH)
        for outlines in ([outline, stray], [stray, outline]):
            instance = {"mask": outlines, "ignore_flag": 0}
            load = transforms.LoadAnnotations(with_mask=True)
            ((kept,),) = load._process_masks({"instances": [instance]})
            assert kept.tolist() == outline
            assert not instance["ignore_flag"]


@pytest.mark.parametrize("evaluated", [True, False])
@pytest.mark.parametrize(
    "box", [[50, 3, 12, 9], [4, -20, 12, 9], [39, 3, 12, 9], [-8, 3, 12, 9], [90, 3, 1, 1]]
)
def test_a_box_outside_its_image_is_named(
    tmp_path: Path, box: list[float], evaluated: bool
) -> None:
    content = sound()
    content["annotations"][1].update(bbox=box, segmentation=[TRIANGLE])
    content["annotations"] += [
        {**content["annotations"][0], "id": number} for number in range(4, 3000)
    ]
    assert "1 box lies outside the image with more than half of the area" in faults(
        tmp_path, content
    )
    (one,) = check_annotations(read_coco(tmp_path / "instances.json"), evaluated=evaluated)
    # Training leaves one in thousands out.
    assert one.fatal == evaluated
    numbers = [float(value) for value in box]
    assert f"annotation 2 has the box {numbers} in an image of 40 x 30" in one.found


@pytest.mark.parametrize("box", [[28.5, 3, 12, 9], [35, 3, 8, 9], [4, -3, 12, 9], [-1, -1, 42, 32]])
def test_a_box_that_reaches_a_little_over_the_edge_is_taken(
    tmp_path: Path, box: list[float]
) -> None:
    content = sound()
    content["annotations"][1].update(bbox=box)
    faults(tmp_path, content)
    assert not any(
        fault.fatal for fault in check_annotations(read_coco(tmp_path / "instances.json"))
    )


def test_run_lengths_are_read_as_pycocotools_writes_them() -> None:
    """Random masks, in its own compressed text; cut anywhere, the text is no mask any more."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = (int(n) for n in rng.integers(1, 60, size=2))
        mask_HW = (rng.random((height, width)) < rng.random()).astype(np.uint8)
        runs = coco_masks.encode(np.asfortranarray(mask_HW))
        text = {"size": runs["size"], "counts": runs["counts"].decode()}
        assert not mask_fault(text)
        assert mask_fault({**text, "counts": text["counts"][:-1]})
        assert mask_fault({**text, "size": [height, width + 1]})


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("entry", ["as stored", "as shown"])
def test_exif_turns_images_away_from_their_annotations(
    tmp_path: Path, orientation: int, entry: str
) -> None:
    """Only where the entry has the turned image's size, and no other, annotations are of that one."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "1.jpg", exif=exif)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "2.jpg")
    on_its_side = orientation != 3
    size = (HEIGHT, WIDTH) if entry == "as shown" and on_its_side else (WIDTH, HEIGHT)
    file = CocoFile(images={1: "1.jpg", 2: "2.jpg"}, sizes={1: size, 2: (WIDTH, HEIGHT)})
    headers = image_headers(tmp_path, ["1.jpg", "2.jpg"])
    found = [fault.found for fault in check_images(tmp_path, file, headers)]
    if entry == "as shown" and on_its_side:
        assert not found
    else:
        (one,) = found
        assert f"in {tmp_path} 1 image is turned by EXIF" in one
        assert f"1.jpg (orientation {orientation})" in one
    stored = list(check_images(tmp_path, file, headers, as_stored=True))
    assert bool(stored) == (size != (WIDTH, HEIGHT))


def test_nothing_that_happens_to_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    """300 files, each with some of its values replaced, keys dropped or bytes lost."""
    rng = random.Random(0)
    strange = [None, True, -1, 0, 1e308, 10**30, "", "x", [], [[]], {}, [1, 2], {"size": [1]}, "\0"]
    for _ in range(300):
        content = sound()
        for _ in range(rng.randint(1, 3)):
            lists = [part for part in content.values() if isinstance(part, list)]
            entries = [one for part in lists for one in part if isinstance(one, dict) and one]
            holder = rng.choice([content, *entries])
            key = rng.choice(list(holder))
            if rng.random() < 0.3 and holder is not content:
                del holder[key]
            else:
                holder[key] = rng.choice(strange)
        data = json.dumps(content).encode()
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))]
        file = tmp_path / "instances.json"
        file.write_bytes(data)
        read = opened(file)
        if isinstance(read, CocoFile):
            for _ in check_annotations(read):
                pass


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
def test_files_that_are_no_annotations(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "instances_val2017.json"
    file.write_text(text, encoding="utf-8")
    found = opened(file)
    assert isinstance(found, Fault)
    assert "instances_val2017.json is no COCO file" in found.found
    assert words in found.found


def test_boxes_as_two_corners_boxes_that_were_scaled_and_captions(tmp_path: Path) -> None:
    content = sound()
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x, y, x + width, y + height]
    assert "two corners (x1, y1, x2, y2)" in faults(tmp_path, content)
    content = sound()
    for one in content["annotations"]:
        one["bbox"] = [0.5 * value for value in one["bbox"]]
    assert "outlines or boxes were scaled" in faults(tmp_path, content)
    content = sound() | {"annotations": [{"image_id": 1, "id": 1, "caption": "a"}]}
    del content["categories"]
    assert "no bbox and no category_id (the first has caption, id, image_id" in faults(
        tmp_path, content
    )
