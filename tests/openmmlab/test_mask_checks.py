"""Masks of segmentation that would fail a run or give a wrong number are found before it begins."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_sets import changed_config, checked, fatal, refused, remask


def _long(*values: Any) -> Any:
    """A variant that takes as long as the others and seldom tells more."""
    return pytest.param(*values, marks=pytest.mark.long)


def test_the_libraries_turn_images_and_not_their_masks(ade20k: Path) -> None:
    """The reason for the check: an image with a mark in one corner, and a mask that says where."""
    import mmcv
    from mmcv.transforms import LoadImageFromFile

    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:8, :8] = 255
    for orientation, corner in ((1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))):
        file = ade20k / f"{orientation}.png"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(file.with_suffix(".jpg"), exif=exif, quality=95)
        Image.fromarray(pixels[..., 0]).save(file, exif=exif)
        image = LoadImageFromFile().transform({"img_path": str(file.with_suffix(".jpg"))})["img"]
        assert image[corner].mean() > 200
        mask = mmcv.imfrombytes(file.read_bytes(), flag="unchanged", backend="pillow")
        assert mask[0, 0] == 255
        as_stored = LoadImageFromFile(color_type="color_ignore_orientation")
        image = as_stored.transform({"img_path": str(file.with_suffix(".jpg"))})["img"]
        assert image[0, 0].mean() > 200


@pytest.mark.parametrize(
    ("split", "change", "words"),
    [
        ("validation", lambda m: np.stack([m] * 3, axis=2), "no 8-bit images of one channel"),
        _long("training", lambda m: m.astype(np.uint16), "no 8-bit images of one channel"),
        ("training", lambda m: m[::2, ::2], "is 48 x 48, its image is 96 x 96"),
        ("validation", lambda m: np.where(m == 0, 77, m).astype(np.uint8), "label 77 is above 10"),
        _long(
            "training",
            lambda m: np.where(m == 0, 11, m).astype(np.uint8),
            "1 was added|is above 10",
        ),
        (
            "validation",
            lambda m: np.zeros_like(m),
            "no pixel is of a class, so that mIoU is undefined",
        ),
        _long("validation", lambda m: np.full_like(m, 255), "no pixel is of a class"),
    ],
)
def test_masks_that_are_none_of_the_config_are_refused(
    ade20k: Path, split: str, change: Any, words: str
) -> None:
    remask(ade20k, split, change)
    found = fatal(checked(ade20k))
    assert any(word in found for word in words.split("|")), found


def test_palettes_and_void_pixels_are_in_order(ade20k: Path) -> None:
    remask(ade20k, "validation", lambda m: np.where(m == 0, 255, m).astype(np.uint8))
    for file in (ade20k / "annotations/training").iterdir():
        with Image.open(file) as image:
            with_colours = image.convert("L")
        with_colours.putpalette(list(range(256)) * 3)
        with_colours.save(file)
    found = checked(ade20k)
    assert not found.faults
    assert found.truth["mIoU"] == 100.0


def test_what_is_taken_for_no_class_is_the_same_everywhere(ade20k: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    for kind, place in (("IoUMetric", "val_evaluator"), ("UPerHead", "model.decode_head")):
        other = (f'type="{kind}"', f'type="{kind}", ignore_index=254')
        changed_config(config, "ade20k", other)
        assert f"{place}.ignore_index is 254" in fatal(checked(ade20k, config=config))
    text = "        reduce_zero_label={},\n        indices=None,\n        pipeline=val"
    reduced = (text.format(True), text.format(False))
    words = "reduce_zero_label is True for the training set and False"
    refused(ade20k, changed_config(config, "ade20k", reduced), words)


def test_classes_that_a_known_data_set_lacks_are_named(ade20k: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    known = ('type="BaseSegDataset"', 'type="ADE20KDataset"')
    words = "masks are numbered by its own 150 classes; digit_0, digit_1"
    refused(ade20k, changed_config(config, "ade20k", known), words)
    untold = ("        metainfo=dict(classes=classes),\n", "")
    words = "the training set has no list of classes"
    refused(ade20k, changed_config(config, "ade20k", untold), words)


def test_a_mask_that_is_missing_or_cut_is_found_first(ade20k: Path) -> None:
    mask = sorted((ade20k / "annotations/validation").iterdir())[1]
    content = mask.read_bytes()
    mask.write_bytes(content[:60])
    assert f"cannot be read: {mask.name}" in fatal(checked(ade20k))
    mask.unlink()
    assert f"cannot be read: {mask.name} (no such file)" in fatal(checked(ade20k))
    mask.with_suffix(".PNG").write_bytes(content)
    assert f"cannot be read: {mask.name} (no such file)" in fatal(checked(ade20k))


def test_a_training_mask_whose_pixels_are_broken_is_named(ade20k: Path) -> None:
    """Its header and its end are whole."""
    mask = sorted((ade20k / "annotations/training").iterdir())[1]
    content = bytearray(mask.read_bytes())
    content[60:90] = bytes(30)
    mask.write_bytes(content)
    assert f"{mask.name} (" in fatal(checked(ade20k))
