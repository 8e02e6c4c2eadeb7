"""The embedded data set: real formats, nothing shared between training and test, same bytes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from micl_bench.data.embedded import PARTS, write_embedded
from micl_bench.data.embedded.material import load_scans
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_files

SHIFTED = ("embedded-a", "embedded-r", "embedded-sketch")
FOLDERS = ("embedded/train", "embedded/val", *SHIFTED)
COCO_SPLITS = {"train": "training", "val": "validation"}


@pytest.fixture(scope="session")
def root(embedded: Path) -> Path:
    return embedded


def describe(root: Path) -> dict[str, Any]:
    return json.loads((root / "dataset.json").read_text())


def pictures(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.int64]]:
    """Pixels (N, H, W, 3) in [0, 1], class names and scan numbers, all as read back from disk."""
    paths = sorted(folder.glob("*/*.jpg"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]) / 255
    names = np.array([path.parent.name for path in paths])
    return pixels, names, np.array([int(path.stem.removeprefix("scan_")) for path in paths])


def load_coco(root: Path, split: str) -> Any:
    coco = pytest.importorskip("pycocotools.coco")
    return coco.COCO(root / f"embedded-coco/annotations/instances_{split}2017.json")


@pytest.mark.long
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    root: Path, tmp_path: Path
) -> None:
    # In another process, with another hash seed: no set's order may leak into a file.
    program = (
        "import sys; from pathlib import Path; from micl_bench.data.embedded import write_embedded;"
        "write_embedded(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "again")], check=True)
    files = [path for path in root.rglob("*") if path.is_file()]
    again = [path for path in (tmp_path / "again").rglob("*") if path.is_file()]
    assert digest_files(tmp_path / "again", again) == digest_files(root, files)
    write_embedded(tmp_path / "other", seed=1)
    first, other = describe(root)["parts"], describe(tmp_path / "other")["parts"]
    assert list(first) == list(other) == list(PARTS)
    assert all(first[part]["digest"] != other[part]["digest"] for part in PARTS)


def test_description_tells_what_is_there(root: Path) -> None:
    description = describe(root)
    assert description["seed"] == 0
    assert sum(description["scans"].values()) == 1797
    for part, record in description["parts"].items():
        files = [path for path in (root / part).rglob("*") if path.is_file()]
        assert record["digest"] == digest_files(root / part, files)
        assert record["stands_for"] == PARTS[part]
        assert sum(record["images"].values()) == sum(path.suffix == ".jpg" for path in files)


def test_class_folders_hold_small_colour_jpegs(root: Path) -> None:
    classes = {folder: {path.name for path in (root / folder).iterdir()} for folder in FOLDERS}
    hard = classes.pop("embedded-a")
    assert set(map(frozenset, classes.values())) == {frozenset(f"digit_{d}" for d in range(10))}
    assert 3 <= len(hard) <= 6
    for path in (path for folder in FOLDERS for path in (root / folder).glob("*/*.jpg")):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))


def test_files_show_the_scan_that_they_are_named_after(root: Path) -> None:
    scans = load_scans(0)
    for folder in FOLDERS:
        _, names, numbers = pictures(root / folder)
        assert names.tolist() == [f"digit_{digit}" for digit in scans.digits[numbers]]
    # And the picture, reduced to the scan's size, is that scan.
    pixels, _, numbers = pictures(root / "embedded/val")
    for darkness, scan in zip(1 - pixels.mean(axis=-1), numbers, strict=True):
        small = Image.fromarray(darkness.astype(np.float32)).resize((8, 8), Image.Resampling.BOX)
        assert np.corrcoef(np.asarray(small).ravel(), scans.inks[scan].ravel())[0, 1] > 0.9


def test_no_scan_is_both_trained_and_tested_on(root: Path) -> None:
    seen = {folder: set(pictures(root / folder)[2].tolist()) for folder in FOLDERS}
    train, val = seen["embedded/train"], seen["embedded/val"]
    reserve = set().union(*(seen[folder] for folder in SHIFTED))
    assert not train & val
    assert not train & reserve
    assert not val & reserve
    for split, allowed in (("train", train), ("val", val)):
        path = root / f"embedded-coco/annotations/instances_{split}2017.json"
        assert {mark["scan"] for mark in json.loads(path.read_text())["annotations"]} <= allowed


def test_split_is_stratified(root: Path) -> None:
    for folder, least in (("embedded/train", 100), ("embedded/val", 33), ("embedded-r", 33)):
        _, counts = np.unique(pictures(root / folder)[1], return_counts=True)
        assert counts.min() >= least
        assert counts.max() - counts.min() <= 0.1 * counts.max()


def test_hard_scans_are_hard_for_other_classifiers_too(root: Path) -> None:
    """Fitted here on the decoded pictures; the difference is taken over the same classes."""
    train, train_names, _ = pictures(root / "embedded/train")
    hard, hard_names, _ = pictures(root / "embedded-a")
    val, val_names, _ = pictures(root / "embedded/val")
    same = np.isin(val_names, hard_names)
    # The scans were chosen by a linear classifier: another linear one must stumble more.
    for classifier, least_drop in ((KNeighborsClassifier(5), 0.02), (RidgeClassifier(), 0.1)):
        classifier.fit(coarse_grey(train), train_names)
        clean = classifier.score(coarse_grey(val[same]), val_names[same])
        assert clean > 0.87
        assert classifier.score(coarse_grey(hard), hard_names) < clean - least_drop


def coarse_grey(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Grey values averaged over 4x4 pixels, (N, 64): enough to tell a digit."""
    return pixels.mean(axis=-1).reshape(len(pixels), 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64)


def local_contrast(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a picture changes, whatever its colours: (N, 64), each of unit length."""
    grey = pixels.mean(axis=-1)
    down, right = np.gradient(grey, axis=(1, 2))
    edges = coarse_grey(np.hypot(down, right)[..., None])
    return edges / np.linalg.norm(edges, axis=1, keepdims=True)


@pytest.mark.parametrize("part", ["embedded-r", "embedded-sketch"])
def test_shifted_pictures_are_not_clean_and_still_their_class(root: Path, part: str) -> None:
    train, train_names, _ = pictures(root / "embedded/train")
    shifted, names, _ = pictures(root / part)
    clean, _, _ = pictures(root / "embedded/val")
    assert shifted.std(axis=(1, 2, 3)).min() > 0.08
    plain = KNeighborsClassifier(5).fit(coarse_grey(train), train_names)
    assert plain.score(coarse_grey(shifted), names) < 0.7
    assert plain.score(coarse_grey(clean), pictures(root / "embedded/val")[1]) > 0.93
    # Edges are what the media leave in place; blind guessing would find one in ten.
    edges = KNeighborsClassifier(5).fit(local_contrast(train), train_names)
    assert edges.score(local_contrast(shifted), names) > 0.7


def test_sketches_are_dark_lines_on_white_and_renditions_differ_in_colour(root: Path) -> None:
    pixels, _, _ = pictures(root / "embedded-sketch")
    assert np.ptp(pixels, axis=-1).max() < 0.05
    assert np.median(pixels, axis=(1, 2, 3)).min() > 0.97
    assert pixels.min(axis=(1, 2, 3)).max() < 0.55
    corners = pictures(root / "embedded-r")[0][:, 0, 0]
    assert corners.std(axis=0).min() > 0.2


def scene_pairs(root: Path, split: str) -> Iterator[tuple[Any, dict[str, Any], Path, Path]]:
    coco = load_coco(root, split)
    for number, image in enumerate(coco.loadImgs(sorted(coco.getImgIds())), start=1):
        stem = f"{COCO_SPLITS[split]}/ADE_{split}_{number:08d}"
        yield (
            coco,
            image,
            root / f"embedded-ade20k/images/{stem}.jpg",
            root / f"embedded-ade20k/annotations/{stem}.png",
        )


@pytest.mark.parametrize("split", COCO_SPLITS)
def test_label_maps_and_instances_agree(root: Path, split: str) -> None:
    for coco, image, picture, labels in scene_pairs(root, split):
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        own = root / f"embedded-coco/{split}2017" / image["file_name"]
        assert own.read_bytes() == picture.read_bytes()
        with Image.open(picture) as scene, Image.open(labels) as opened:
            assert (scene.mode, scene.size) == ("RGB", (96, 96))
            assert (opened.format, opened.mode, opened.size) == ("PNG", "L", (96, 96))
            expected = np.asarray(opened)
        found, times = np.zeros((96, 96), np.uint8), np.zeros((96, 96), int)
        for mark in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(mark)
            found[mask == 1] = mark["category_id"]
            times += mask
        assert times.max() == 1
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("split", COCO_SPLITS)
def test_boxes_and_areas_are_those_of_pycocotools(root: Path, split: str) -> None:
    codec = pytest.importorskip("pycocotools.mask")
    coco = load_coco(root, split)
    scans = load_scans(0)
    for mark in coco.anns.values():
        encoded = coco.annToRLE(mark)
        assert mark["area"] == codec.area(encoded)
        np.testing.assert_array_equal(mark["bbox"], codec.toBbox(encoded))
        assert mark["iscrowd"] == 0
        assert mark["category_id"] == scans.digits[mark["scan"]] + 1
        assert mark["area"] > 20


@pytest.mark.parametrize(("split", "least"), [("train", 240), ("val", 60)])
def test_coco_files_are_complete(root: Path, split: str, least: int) -> None:
    coco = load_coco(root, split)
    assert {"info", "licenses", "images", "annotations", "categories"} <= set(coco.dataset)
    categories = coco.loadCats(coco.getCatIds())
    assert [(row["id"], row["name"]) for row in categories] == [
        (digit + 1, f"digit_{digit}") for digit in range(10)
    ]
    assert len(coco.imgs) >= least
    counts = [len(coco.getAnnIds(image)) for image in coco.imgs]
    assert min(counts) >= 2
    assert max(counts) <= 4
    assert np.mean(counts) > 2.5
    # Its own evaluation accepts it: the truth, given as predictions, is perfect.
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    predictions = [{**mark, "score": 1.0} for mark in coco.anns.values()]
    for kind in ("bbox", "segm"):
        run = evaluation.COCOeval(coco, coco.loadRes(predictions), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
        assert run.stats[0] == pytest.approx(1.0)


def test_digit_stands_out_from_its_surroundings(root: Path) -> None:
    """A mask drawn on the wrong scene, or shifted, would find no contrast at its border."""
    contrasts = []
    for _, _, picture, labels in scene_pairs(root, "val"):
        grey = np.asarray(Image.open(picture).convert("L"), float)
        digits = np.asarray(Image.open(labels)) > 0
        around = binary_dilation(digits, iterations=3) & ~binary_dilation(digits)
        contrasts.append(grey[around].mean() - grey[digits].mean())
    # Dark ink on light paper, wherever the note lies.
    assert np.min(contrasts) > 20


def test_finished_set_is_left_alone(root: Path) -> None:
    before = (root / "dataset.json").stat().st_mtime_ns
    reports: list[str] = []
    write_embedded(root, progress=lambda part, done, total: reports.append(part))
    assert (root / "dataset.json").stat().st_mtime_ns == before
    assert reports == []


def test_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, int]:
        raise KeyboardInterrupt

    monkeypatch.setattr("micl_bench.data.embedded.pictures.write_hard", fail)
    seen: list[tuple[str, int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        write_embedded(tmp_path / "data", progress=lambda *report: seen.append(report))
    assert list(tmp_path.iterdir()) == []
    assert seen == [(part, number, len(PARTS)) for number, part in enumerate([*PARTS][:2])]


def test_set_that_lost_a_part_is_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    out.mkdir()
    description = {"name": "micl-bench-embedded", "seed": 0, "format_version": 1}
    (out / "dataset.json").write_text(json.dumps(description))
    filled: list[Path] = []
    monkeypatch.setattr("micl_bench.data.embedded._fill", lambda folder, *_: filled.append(folder))
    write_embedded(out)
    assert len(filled) == 1


def test_what_is_somebody_elses_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex.*new or empty folder") as caught:
        write_embedded(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="is a file"):
        write_embedded(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    own = tmp_path / "own"
    with pytest.raises(InputError, match="seed is -1; needed: 0 or more"):
        write_embedded(own, seed=-1)
    own.mkdir()
    (own / "dataset.json").write_text('{"name": "micl-bench-embedded", "seed": 0}')
    (own / "my-model.pt").touch()
    with pytest.raises(InputError, match=r"my-model\.pt"):
        write_embedded(own)
    with pytest.raises(InputError, match="seed 0, not 7"):
        write_embedded(root, seed=7)


def test_table_of_parts_needs_no_heavy_import() -> None:
    program = (
        "import sys; from micl_bench.data.embedded import PARTS; assert len(PARTS) == 6;"
        "heavy = {'numpy', 'PIL', 'scipy', 'sklearn', 'torch'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
