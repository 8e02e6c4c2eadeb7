"""ADE20K in its released layout, small: sound, and with each fault that people met."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from micl_bench.data.dense_checks import add_labels, histogram, label_fault, nearest_offset
from micl_bench.doctor import Finding, _ade20k, check_data
from micl_bench.doctor._release import against_release

SIZES = {"training": 12, "validation": 8}
WIDTH, HEIGHT = 68, 51


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 150 classes, each pixel drawn by its class's share in the release; read only."""
    folder = tmp_path_factory.mktemp("ade") / "ADEChallengeData2016"
    random = np.random.default_rng(0)
    shares = np.array([1 - sum(_ade20k._SHARES), *_ade20k._SHARES])
    for split, number in SIZES.items():
        short = {"training": "train", "validation": "val"}[split]
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(1, number + 1):
            label_HW = random.choice(151, size=(HEIGHT, WIDTH), p=shares / shares.sum())
            # Rare classes are in every set of masks that is large enough.
            label_HW[0, :3] = (0, 1, 150)
            name = f"{split}/ADE_{short}_{index:08d}"
            Image.fromarray(label_HW.astype(np.uint8)).save(folder / "annotations" / f"{name}.png")
            picture = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / "images" / f"{name}.jpg")
    return folder


@pytest.fixture
def data(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, of the size that counts as whole."""
    monkeypatch.setattr(_ade20k, "IMAGES", SIZES)
    return Path(shutil.copytree(released, tmp_path / "ADEChallengeData2016"))


def problems(folder: Path) -> list[Finding]:
    found = [one for one in check_data(folder) if one.level != "ok"]
    assert all(one.mend for one in found)
    return found


def change(folder: Path, edit: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> None:
    """Every mask's numbers."""
    for mask in folder.glob("annotations/*/*.png"):
        with Image.open(mask) as image:
            label_HW = np.asarray(image, dtype=np.int64)
        Image.fromarray(edit(label_HW).astype(np.uint8)).save(mask)


def test_the_release_is_known() -> None:
    assert _ade20k.IMAGES == {"training": 20_210, "validation": 2_000}
    assert len(_ade20k._SHARES) == _ade20k.CLASSES == 150
    # Classes are numbered by their shares; the five largest are wall, building, sky, floor, tree.
    assert _ade20k._SHARES[:5] == (0.1576, 0.1072, 0.0878, 0.0621, 0.048)
    assert list(_ade20k._SHARES) == sorted(_ade20k._SHARES, reverse=True)


def test_sound_data_are_counted_and_nothing_else(data: Path) -> None:
    found = check_data(data.parent)
    assert [(one.level, one.found) for one in found] == [
        ("ok", "ADE20K: 12 images; labels of all masks were read"),
        ("ok", "ADE20K: 8 images; labels of all masks were read"),
    ]


def test_of_many_training_masks_some_are_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other one of 12: a fault in the second is not seen, one in the third is."""
    monkeypatch.setattr(_ade20k, "_SAMPLE", {"training": 6})
    assert check_data(data)[0].found.endswith("labels of 6 masks, evenly spaced, were read")
    folder = data / "annotations" / "training"
    for number, seen in ((2, False), (3, True)):
        spoilt = folder / f"ADE_train_{number:08d}.png"
        Image.new("L", (WIDTH, HEIGHT), 200).save(spoilt)
        assert ("label 200 is above 150" in str(problems(data))) == seen


def test_a_part_is_named_as_one(released: Path, tmp_path: Path) -> None:
    found = check_data(released)
    assert [one.level for one in found] == ["warning", "warning"]
    assert found[1].found == "ADE20K: 8 images: a part of ADE20K; labels of all masks were read"
    assert "--recipe CONFIG" in found[1].mend


@pytest.mark.parametrize("images", [1, 19_999, 20_209, 20_211, 25_574])
def test_other_numbers_than_a_releases_are_a_remark(images: int) -> None:
    """Whoever has data of that layout, a subset or more of it, has done nothing wrong."""
    one = against_release(
        "x", "found", title="ADE20K", images=images, expected=20_210, unpack="unpack it"
    )
    assert one.level == "warning"
    assert ("unpack it" in one.mend) == (images > 0.9 * 20_210)
    assert "--recipe CONFIG" in one.mend


def test_pairs_are_by_name(data: Path) -> None:
    (data / "annotations/validation/ADE_val_00000002.png").rename(
        data / "annotations/validation/ADE_val_00009999.png"
    )
    found = [one.found for one in problems(data)]
    assert found == [
        "1 image without an annotation: ADE_val_00000002",
        "1 annotation without an image: ADE_val_00009999",
    ]


def test_what_is_called_like_an_image_and_is_no_file_is_not_read(data: Path) -> None:
    """A pipe would be waited for without end; a folder and a lost link cannot be read either."""
    images, masks = (data / kind for kind in ("images", "annotations"))
    os.mkfifo(images / "validation" / "z.jpg")
    (images / "training" / "x.jpg").mkdir()
    (masks / "training" / "x.png").symlink_to("x.png")
    os.mkfifo(masks / "validation" / "ignored.txt")
    assert [one.found for one in problems(data)] == [
        f"1 entry of {images / 'training'} is no file: x.jpg",
        f"1 entry of {masks / 'training'} is no file: x.png",
        f"1 entry of {images / 'validation'} is no file: z.jpg",
    ]


def test_a_split_without_annotations(data: Path) -> None:
    shutil.rmtree(data / "annotations" / "validation")
    (one,) = problems(data)
    assert one.found == f"no file in {data}/annotations/validation"
    assert "ADEChallengeData2016.zip" in one.mend


def test_a_mask_that_was_scaled_down_is_named_with_both_sizes(data: Path) -> None:
    """Masks of 100 pixels once gave a published number 6 points above its true one."""
    mask = data / "annotations/validation/ADE_val_00000003.png"
    with Image.open(mask) as image:
        image.resize((34, 25), Image.Resampling.NEAREST).save(mask)
    (one,) = problems(data)
    assert one.subject == f"{data} (validation)"
    assert one.found == (
        "1 mask has another size than the image: ADE_val_00000003.png is 34 x 25, its image is "
        "68 x 51"
    )


def test_labels_that_were_shifted_already(data: Path) -> None:
    """What mmsegmentation's reduce_zero_label makes of them, stored."""
    change(data, lambda label_HW: np.where(label_HW == 0, 255, label_HW - 1))
    found = problems(data)
    assert len(found) == 2
    assert "wrong label offset in 8 masks: labels 0 to 149 and 255" in found[1].found
    assert "reduce_zero_label" in found[1].mend


def test_labels_shifted_without_a_trace_are_told_by_their_shares(data: Path) -> None:
    """Numbers from 0 to 149 alone are all allowed, with "other" as 0 or with wall as 0."""
    change(data, lambda label_HW: np.maximum(label_HW - 1, 0))
    found = problems(data)
    assert len(found) == 2
    assert "labels fit ADE20K's classes when +1 is added" in found[0].found


def test_labels_from_1_to_151(data: Path) -> None:
    change(data, lambda label_HW: label_HW + 1)
    assert "labels 1 to 151, not 0 to 150: 1 was added" in problems(data)[0].found


def test_labels_above_the_classes(data: Path) -> None:
    change(data, lambda label_HW: np.where(label_HW == 7, 200, label_HW))
    assert "label 200 is above 150, the last of 150 classes" in problems(data)[0].found


def test_classes_in_another_order(data: Path) -> None:
    order = np.random.default_rng(1).permutation(np.arange(1, 151))
    change(data, lambda label_HW: np.array([0, *order])[label_HW])
    found = problems(data)
    assert len(found) == 2
    assert "classes in another order" in found[0].found


def test_pictures_of_masks_are_no_masks(data: Path) -> None:
    mask = data / "annotations/training/ADE_train_00000001.png"
    Image.new("RGB", (WIDTH, HEIGHT)).save(mask)
    (one,) = problems(data)
    assert "1 mask is no 8-bit image of one channel: ADE_train_00000001.png (mode RGB)" in one.found


@pytest.mark.parametrize("layout", ["images/ADE/training", "images/training/a/abbey"])
def test_the_full_release_is_another_data_set(tmp_path: Path, layout: str) -> None:
    """ADE20K_2021_17_01, and that of 2016."""
    place = tmp_path / "ADE20K_2021_17_01" / layout
    place.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(place / "ADE_train_00000001.jpg")
    Image.new("RGB", (8, 8)).save(place / "ADE_train_00000001_seg.png")
    for folder in (tmp_path, tmp_path / "ADE20K_2021_17_01"):
        (one,) = problems(folder)
        assert "the full release of ADE20K" in one.found
        assert "ADEChallengeData2016" in one.mend


@pytest.mark.parametrize(
    "name",
    ["images/validation/ADE_val_00000001.jpg", "annotations/validation/ADE_val_00000001.png"],
)
@pytest.mark.parametrize("kept", ["nothing", "the header", "all but the end"])
def test_files_that_were_cut_short(data: Path, name: str, kept: str) -> None:
    content = (data / name).read_bytes()
    length = {"nothing": 0, "the header": 700 if "jpg" in name else 60}.get(kept, len(content) - 99)
    (data / name).write_bytes(content[:length])
    (one,) = problems(data)
    assert one.found.startswith(f"1 file cannot be read: {Path(name).name} (")


def test_bytes_after_the_end_of_a_file_are_no_fault(data: Path) -> None:
    with (data / "images/validation/ADE_val_00000001.jpg").open("ab") as file:
        file.write(b"\0" * 10_000)
    assert problems(data) == []


def test_headers_are_whole_and_pixels_are_not(data: Path) -> None:
    mask = data / "annotations/validation/ADE_val_00000001.png"
    content = bytearray(mask.read_bytes())
    content[100:200] = bytes(100)
    mask.write_bytes(content)
    (one,) = problems(data)
    assert "cannot be decoded" in one.found


def test_the_embedded_scenes_and_a_part_of_them_are_sound(embedded: Path, tmp_path: Path) -> None:
    found = check_data(embedded / "embedded-ade20k")
    assert [one.level for one in found] == ["ok"] * 3
    assert found[1].found == "ADE20K: 240 images; labels of all masks were read"


def masks(folder: Path, *arrays: list[list[int]]) -> list[Path]:
    files = [folder / f"{index}.png" for index in range(len(arrays))]
    for file, array in zip(files, arrays, strict=True):
        Image.fromarray(np.array(array, dtype=np.uint8)).save(file)
    return files


@pytest.mark.parametrize(
    ("numbers", "reduce_zero_label", "fault"),
    [
        ([0, 1, 2, 3], True, ""),
        ([1, 3], True, ""),
        # Own data with both 0 and 255 left out: class 3 is there, so nothing was subtracted.
        ([0, 1, 3, 255], True, ""),
        ([0, 2, 255], True, "1 was subtracted already"),
        ([1, 2, 4], True, "1 was added"),
        ([0, 4], True, "label 4 is above 3, the last of 3 classes"),
        ([0, 1, 2, 255], False, ""),
        ([0, 1, 3], False, "reduce_zero_label is missing"),
        ([1, 2, 3], False, "1 was added"),
        ([0, 9, 8, 7, 6], False, "labels 6, 7, 8, ... are above 2"),
    ],
)
def test_faults_of_three_classes(
    tmp_path: Path, numbers: list[int], reduce_zero_label: bool, fault: str
) -> None:
    labels = add_labels(map(histogram, masks(tmp_path, [numbers], [numbers[:1]])))
    assert labels.present() == set(numbers)
    assert labels.masks == 2
    found = label_fault(labels, num_classes=3, reduce_zero_label=reduce_zero_label)
    assert fault in found
    assert bool(fault) == bool(found)


def test_offsets_by_shares(tmp_path: Path) -> None:
    """Half of "other", a quarter and a quarter; worked out by hand."""
    labels = add_labels(map(histogram, masks(tmp_path, [[0, 0, 1, 2]], [[0, 0, 1, 1]])))
    # Offset 0: |0.5-0.5| + |0.375-0.25| + |0.125-0.25|, halved.
    assert nearest_offset(labels, (0.25, 0.25)) == (0, pytest.approx(0.125))
    shifted = add_labels(map(histogram, masks(tmp_path, [[255, 255, 0, 1]])))
    assert nearest_offset(shifted, (0.25, 0.25)) == (-1, pytest.approx(0.0))


def test_histograms_are_numpys(tmp_path: Path) -> None:
    label_HW = np.random.default_rng(0).integers(0, 256, (31, 17)).tolist()
    (file,) = masks(tmp_path, label_HW)
    assert histogram(file).tolist() == np.bincount(np.ravel(label_HW), minlength=256).tolist()
    Image.new("RGB", (4, 4)).save(file)
    with pytest.raises(ValueError, match="mode RGB"):
        histogram(file)


def test_images_of_other_suffixes_are_counted(data: Path) -> None:
    """mmsegmentation reads `.jpg` alone, in lower case."""
    for number, suffix in ((1, ".JPG"), (2, ".jpeg"), (3, ".png")):
        image = data / f"images/validation/ADE_val_{number:08d}.jpg"
        image.rename(image.with_suffix(suffix))
    found = [one.found for one in problems(data)]
    assert f"3 images in {data}/images/validation are not read: ADE_val_00000001.JPG, " in found[0]
    assert any("3 annotations without an image" in text for text in found)
