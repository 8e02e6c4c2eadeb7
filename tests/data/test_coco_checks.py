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

from micl_bench.data.coco import CocoFile, Runs, mask_fault, read_coco
from micl_bench.data.coco import Image as Entry
from micl_bench.data.coco_checks import check_annotations, check_images
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


def read(folder: Path, content: Any) -> CocoFile | Fault:
    """Read a file with this content, given as text, bytes, or for JSON."""
    file = folder / "instances.json"
    data = content if isinstance(content, str | bytes) else json.dumps(content)
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_coco(file)


def found(folder: Path, content: Any, **uses: bool) -> list[Fault]:
    """Everything that is found."""
    one = read(folder, content)
    faults = [one] if isinstance(one, Fault) else list(check_annotations(one, **uses))
    assert all(fault.fix for fault in faults)
    return faults


def faults(folder: Path, content: Any) -> str:
    """Return its faults on one line; empty where the file is sound."""
    return "; ".join(fault.found for fault in found(folder, content))


def change(place: str, key: str, value: Any) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        content[place][1][key] = value

    return edit


def drop(place: str, key: str) -> Callable[[Any], None]:
    return lambda content: content[place][1].pop(key)


def test_a_sound_file_has_no_fault(tmp_path: Path) -> None:
    assert not faults(tmp_path, sound())


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        *(
            (drop(place, key), f"missing required field `{key}` - at `$.{place}[1]`")
            for place, key in (
                ("images", "id"),
                ("images", "file_name"),
                ("images", "width"),
                ("categories", "name"),
                ("annotations", "id"),
                ("annotations", "image_id"),
                ("annotations", "category_id"),
                ("annotations", "bbox"),
                ("annotations", "area"),
            )
        ),
        (drop("annotations", "segmentation"), "1 of 3 annotations has no segmentation"),
        (change("images", "width", 40.5), "got `float` - at `$.images[1].width`"),
        (change("images", "height", 0), "- at `$.images[1].height`"),
        (change("images", "id", 1), "images[1].id is 1, which another entry has too"),
        (change("images", "file_name", ""), "images[1].file_name is '', no name"),
        (change("images", "file_name", "../1.jpg"), "not below the folder of images"),
        (change("images", "file_name", "/etc/1.jpg"), "not below the folder of images"),
        (change("categories", "id", 7), "categories[1].id is 7, which another entry has too"),
        (change("categories", "name", "cat"), "categories[1].name is 'cat', which another"),
        (change("categories", "name", "\n"), "categories[1].name is '\\n', no name"),
        (change("annotations", "bbox", [1, 2, 3]), "length 4 - at `$.annotations[1].bbox`"),
        (change("annotations", "bbox", [1, 2, -3, 4]), ">= 0.0 - at `$.annotations[1].bbox[2]`"),
        (change("annotations", "bbox", [1, "2", 3, 4]), "- at `$.annotations[1].bbox[1]`"),
        (change("annotations", "bbox", [1, 2, 10**400, 4]), "- at `$.annotations[1].bbox[2]`"),
        (change("annotations", "bbox", [float("nan")] * 4), "JSON is malformed"),
        (change("annotations", "area", "54"), "got `str` - at `$.annotations[1].area`"),
        (change("annotations", "iscrowd", "no"), "- at `$.annotations[1].iscrowd`"),
        (
            change("annotations", "image_id", 5),
            "1 annotation is of images that the file does not list: annotation 2 is of image 5",
        ),
        (change("annotations", "category_id", 8), "by a wrong label offset: category_id 8"),
        (change("annotations", "id", 1), "1 annotation has an id that another one has too"),
        (change("annotations", "id", 0), "id 0, which pycocotools counts as missed"),
        (change("annotations", "id", 1.5), "got `float` - at `$.annotations[1].id`"),
        (change("annotations", "id", 10**4000), "- at `$.annotations[1].id`"),
        (change("annotations", "segmentation", [[1, 2, 3, 4]]), "a polygon of 4 numbers"),
        (change("annotations", "segmentation", [[1] * 7]), "a polygon of 7 numbers"),
        (change("annotations", "segmentation", [["a"] * 6]), "neither a list of polygons nor"),
        (change("annotations", "segmentation", "a text"), "neither a list of polygons nor"),
        (change("annotations", "segmentation", {"counts": [5]}), "missing required field `size`"),
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
        (lambda content: content.pop("images"), "missing required field `images`"),
        (lambda content: content.update(images=[]), "length >= 1 - at `$.images`"),
        (lambda content: content.update(annotations=[]), "it has no annotations"),
        (lambda content: content.update(categories=[]), "it lists no categories"),
        (lambda content: content.pop("categories"), "missing required field `categories`"),
        (lambda content: content.update(annotations={"1": {}}), "- at `$.annotations`"),
        (lambda content: content["images"].append(None), "got `null` - at `$.images[2]`"),
        (
            lambda content: content.update(annotations=[{"image_id": 1, "caption": "a"}]),
            "no COCO file of objects with boxes",
        ),
    ],
)
def test_every_fault_is_named_with_its_entry_and_key(
    tmp_path: Path, edit: Callable[[Any], None], words: str
) -> None:
    content = sound()
    edit(content)
    assert words in faults(tmp_path, content)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        json.dumps(sound()).encode()[:-40],
        json.dumps(sound()).encode("utf-16"),
        json.dumps(sound()).replace("cat", "k\xe4tze").encode("latin-1"),
        json.dumps(sound()).replace("cat", "\\ud800").encode(),
        b"\x89PNG\r\n",
        b"<html></html>",
        json.dumps(sound()).encode() + b"}",
        b'{"a": ' + b"[" * 100_000,
        b'{"images": [{"id": 1, "x": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_json_is_one_line(tmp_path: Path, data: bytes) -> None:
    one = read(tmp_path, data)
    assert isinstance(one, Fault)
    assert one.found.startswith(f"{tmp_path / 'instances.json'} is no COCO file of objects")
    assert one.found.isprintable()


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    one = read_coco(tmp_path / "none.json")
    assert isinstance(one, Fault)
    assert one.found.endswith("No such file or directory")


def test_iscrowd_is_0_where_it_is_not_there(tmp_path: Path) -> None:
    content = sound()
    for one in content["annotations"]:
        del one["iscrowd"]
    assert not faults(tmp_path, content)
    assert [one.iscrowd for one in read(tmp_path, content).annotations] == [0, 0, 0]


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
    assert found(tmp_path, content)
    assert not found(tmp_path, content, masks=False)


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
        (one,) = found(tmp_path, content, evaluated=evaluated)
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
    (one,) = found(tmp_path, content, evaluated=evaluated)
    assert "1 box lies outside the image with more than half of the area" in one.found
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
    assert not any(fault.fatal for fault in found(tmp_path, content))


def test_run_lengths_are_read_as_pycocotools_writes_them() -> None:
    """Random masks, in its own compressed text; cut anywhere, the text is no mask any more."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = (int(n) for n in rng.integers(1, 60, size=2))
        mask_HW = (rng.random((height, width)) < rng.random()).astype(np.uint8)
        runs = coco_masks.encode(np.asfortranarray(mask_HW))
        text = runs["counts"].decode()
        assert not mask_fault(Runs(size=(height, width), counts=text))
        assert mask_fault(Runs(size=(height, width), counts=text[:-1]))
        assert mask_fault(Runs(size=(height, width + 1), counts=text))


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
    entries = [Entry(1, "1.jpg", *size), Entry(2, "2.jpg", WIDTH, HEIGHT)]
    file = CocoFile(images={one.id: one for one in entries}, categories={}, annotations=[])
    named = [fault.found for fault in check_images(tmp_path, file, entries)]
    if entry == "as shown" and on_its_side:
        assert not named
    else:
        (one,) = named
        assert f"in {tmp_path} 1 image is turned by EXIF" in one
        assert f"1.jpg (orientation {orientation})" in one
    stored = list(check_images(tmp_path, file, entries, as_stored=True))
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
        found(tmp_path, data)


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


def test_boxes_as_two_corners_and_boxes_that_were_scaled(tmp_path: Path) -> None:
    content = sound()
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x, y, x + width, y + height]
    assert "two corners (x1, y1, x2, y2)" in faults(tmp_path, content)
    content = sound()
    for one in content["annotations"]:
        one["bbox"] = [0.5 * value for value in one["bbox"]]
    assert "outlines or boxes were scaled" in faults(tmp_path, content)
