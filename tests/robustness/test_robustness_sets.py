"""Declared sets: as published, and every trap of their labels."""

import dataclasses
import json
from pathlib import Path

import pytest
from timm.data import ImageNetInfo
from timm.data.real_labels import RealLabelsImagenet

from micl_bench.robustness import (
    CleanSet,
    RobustnessSet,
    image_number,
    imagenet_classes,
    inspect_set,
    real_labels,
)
from micl_bench.runtime import plugins

# Images of each part and classes, as the papers and releases state them.
PUBLISHED = {
    "imagenet_a": (7_500, 200),
    "imagenet_r": (30_000, 200),
    "imagenet_sketch": (50_889, 1000),
    "imagenet_v2_matched_frequency": (10_000, 1000),
    "imagenet_v2_threshold07": (10_000, 1000),
    "imagenet_v2_topimages": (10_000, 1000),
    "imagenet_real": (50_000, 1000),
    "imagenet_c": (50_000, 1000),
    "objectnet": (18_574, 113),
}


def check(one: RobustnessSet, root: Path) -> list[str]:
    """All that is found."""
    findings = inspect_set(one, root)
    return [*findings.wrong, *findings.missing]


def named(name: str) -> RobustnessSet:
    found = plugins.find("robustness", name).SET
    assert isinstance(found, RobustnessSet)
    return found


def small(name: str, classes: int, *, images: int, per_class: int | None = None) -> RobustnessSet:
    """A declared set with fewer classes and images, and a clean set of two images per class."""
    one = named(name)
    ids = one.classes[:classes]
    clean = dataclasses.replace(one.clean, classes=ids, per_class=2)
    return dataclasses.replace(one, classes=ids, images=images, per_class=per_class, clean=clean)


def fill(folder: Path, counts: dict[str, int]) -> None:
    """Class folders with empty files: a check reads names only."""
    for name, number in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(number):
            (folder / name / f"{i}.JPEG").touch()


def test_every_set_is_declared_as_published() -> None:
    declared = {name for name in plugins.names("robustness") if not name.startswith("embedded_")}
    assert declared == set(PUBLISHED)
    for name, (images, classes) in PUBLISHED.items():
        one = named(name)
        assert one.images == images
        assert (len(one.classes) or one.num_classes) == classes
        assert one.clean.images == 50_000
        assert one.paper
        assert plugins.names("robustness")[name].endswith(".")
    assert len(named("imagenet_c").parts) == 75
    assert len({named(name).title for name in PUBLISHED}) == len(PUBLISHED)
    positional = [name for name in PUBLISHED if named(name).labels == "folder positions"]
    assert positional == [name for name in PUBLISHED if "_v2_" in name]


def test_class_maps_are_those_of_timm() -> None:
    info = ImageNetInfo()
    assert imagenet_classes() == tuple(info.label_names()) == tuple(sorted(imagenet_classes()))
    assert len(set(imagenet_classes("a"))) == len(set(imagenet_classes("r"))) == 200
    assert set(imagenet_classes("a")) | set(imagenet_classes("r")) < set(imagenet_classes())
    assert sum(map(bool, real_labels())) == 46_837
    names = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 50_001)]
    theirs = RealLabelsImagenet(names).real_labels
    assert all(list(real_labels()[image_number(name) - 1]) == theirs[name] for name in names)


@pytest.mark.parametrize("name", ["ILSVRC2012_val_1.JPEG", "val_00000001.JPEG", "0.png"])
def test_a_file_that_is_no_validation_image_has_no_number(name: str) -> None:
    assert image_number(name) == 0
    assert image_number("ILSVRC2012_val_00050001.JPEG") == 0
    assert image_number("n01440764/ILSVRC2012_val_00000293.JPEG") == 293


def test_the_whole_imagenet_a_has_no_finding(tmp_path: Path) -> None:
    one = named("imagenet_a")
    few = dataclasses.replace(one.clean, per_class=1)
    one = dataclasses.replace(one, clean=few)
    fill(tmp_path / "imagenet-a", {name: 37 + (i < 100) for i, name in enumerate(one.classes)})
    fill(tmp_path / "imagenet/val", dict.fromkeys(few.classes, 1))
    (tmp_path / "imagenet-a" / "README.txt").touch()
    assert check(one, tmp_path) == []
    (tmp_path / "imagenet-a" / one.classes[5] / "0.JPEG").unlink()
    (line,) = check(one, tmp_path)
    assert line.startswith(f"{tmp_path / 'imagenet-a'} holds 7,499 of 7,500 images")
    assert not inspect_set(one, tmp_path).wrong


def test_missing_images_are_named_with_their_class(tmp_path: Path) -> None:
    one = small("imagenet_v2_topimages", 5, images=50, per_class=10)
    fill(tmp_path / one.folder, {"0": 10, "1": 9, "2": 10, "3": 0})
    fill(tmp_path / one.clean.folder, dict.fromkeys(one.classes, 2))
    absent, counts = check(one, tmp_path)
    assert "lacks 1 of 5 class folders: 4" in absent
    assert "holds 29 of 50 images, 1 has 9 of 10, 3 has 0 of 10; unpack" in counts


def test_more_images_than_released_are_wrong_not_missing(tmp_path: Path) -> None:
    one = small("imagenet_a", 2, images=2)
    fill(tmp_path / one.folder, dict(zip(one.classes, (1, 2), strict=True)))
    fill(tmp_path / one.clean.folder, dict.fromkeys(one.classes, 2))
    findings = inspect_set(one, tmp_path)
    assert not findings.missing
    assert "holds 3 of 2 images" in findings.wrong[0]


@pytest.mark.parametrize(
    ("name", "per_class", "counts", "words"),
    [
        ("imagenet_v2_topimages", 4, (1, 7, 4), "0 has 1 of 4, 1 has 7 of 4"),
        # Fewer in all do not excuse too many of one.
        ("imagenet_v2_topimages", 4, (0, 7, 4), "0 has 0 of 4, 1 has 7 of 4"),
        ("imagenet_a", None, (0, 8, 4), "{} has none"),
    ],
)
def test_images_in_the_folder_of_another_class_are_wrong_though_the_total_is_right(
    tmp_path: Path, name: str, per_class: int | None, counts: tuple[int, ...], words: str
) -> None:
    one = small(name, 3, images=12, per_class=per_class)
    folders = ("0", "1", "2") if per_class else one.classes
    fill(tmp_path / one.folder, dict(zip(folders, counts, strict=True)))
    fill(tmp_path / one.clean.folder, dict.fromkeys(one.classes, 2))
    (line,) = inspect_set(one, tmp_path).wrong
    where = words.format(one.classes[0])
    assert f"holds {sum(counts)} of 12 images, {where}; unpack" in line
    assert check(one, tmp_path) == [line]


def test_clean_images_in_the_folder_of_another_class_are_wrong(tmp_path: Path) -> None:
    one = small("imagenet_a", 3, images=3)
    fill(tmp_path / one.folder, dict.fromkeys(one.classes, 1))
    fill(tmp_path / one.clean.folder, dict(zip(one.classes, (3, 1, 2), strict=True)))
    (line,) = inspect_set(one, tmp_path).wrong
    assert f"{one.classes[0]} has 3 of 2, {one.classes[1]} has 1 of 2" in line


@pytest.mark.parametrize("place", ["folder", "clean"])
def test_folders_named_by_numbers_are_refused_where_the_set_does_not_declare_them(
    tmp_path: Path, place: str
) -> None:
    one = small("imagenet_r", 3, images=3)
    numbers, ids = dict.fromkeys("012", 1), dict.fromkeys(one.classes, 1)
    fill(tmp_path / one.folder, numbers if place == "folder" else ids)
    fill(
        tmp_path / one.clean.folder,
        dict.fromkeys("012" if place == "clean" else one.classes, 2),
    )
    (line,) = check(one, tmp_path)
    assert "class folders named by numbers (0, 1, 2)" in line
    assert inspect_set(one, tmp_path).wrong == [line]


def test_absent_foreign_and_flat_folders_are_reported(tmp_path: Path) -> None:
    one = small("imagenet_a", 2, images=2)
    lines = check(one, tmp_path)
    assert len(lines) == 2
    assert f"ln -s WHERE_IT_IS {tmp_path / 'imagenet-a'}" in lines[0]
    assert f"ln -s WHERE_IT_IS {tmp_path / 'imagenet'}" in lines[1]
    assert "`micl-bench data embedded" in check(named("embedded_a"), tmp_path)[0]
    fill(tmp_path / one.folder, {**dict.fromkeys(one.classes, 1), "n99999999": 1})
    (tmp_path / one.clean.folder).mkdir(parents=True)
    (tmp_path / one.clean.folder / "ILSVRC2012_val_00000001.JPEG").touch()
    foreign, flat = check(one, tmp_path)
    assert "1 class folder not of ImageNet-A: n99999999" in foreign
    assert "has no class folders" in flat


def test_imagenet_c_needs_every_corruption_and_severity(tmp_path: Path) -> None:
    one = small("imagenet_c", 2, images=2, per_class=1)
    for part in one.parts[:-2]:
        fill(tmp_path / part, dict.fromkeys(one.classes, 1))
    fill(tmp_path / one.clean.folder, dict.fromkeys(one.classes, 2))
    (line,) = inspect_set(one, tmp_path).wrong
    assert "jpeg_compression/4" in line
    assert "(2 of its 75 folders)" in line
    for part in one.parts[-2:]:
        fill(tmp_path / part, dict.fromkeys(one.classes, 1))
    assert check(one, tmp_path) == []
    for part in one.parts[3:6]:
        (tmp_path / part / one.classes[1] / "0.JPEG").unlink()
    first, more = check(one, tmp_path)
    assert f"{one.parts[3]} holds 1 of 2 images, {one.classes[1]} has 0 of 1" in first
    assert more == "ImageNet-C: 2 more of its folders lack images"


def test_real_needs_the_names_of_the_validation_images(tmp_path: Path) -> None:
    one = small("imagenet_real", 2, images=4, per_class=2)
    fill(tmp_path / one.folder, dict.fromkeys(one.classes, 2))
    (line,) = check(one, tmp_path)
    assert "4 in" in line
    assert "restore their names" in line


def test_objectnet_without_its_mappings_is_reported(tmp_path: Path) -> None:
    one = dataclasses.replace(named("objectnet"), clean=CleanSet(folder=named("objectnet").folder))
    fill(tmp_path / one.folder, {"alarm_clock": 1})
    (line,) = check(one, tmp_path)
    assert "ObjectNet's labels need the `mappings` of its release" in line
    mappings = tmp_path / one.folder.parent / "mappings"
    mappings.mkdir()
    for name in ("folder_to_objectnet_label", "objectnet_to_imagenet_1k"):
        (mappings / f"{name}.json").write_text(json.dumps({"a": "b"}))
    (mappings / "pytorch_to_imagenet_2012_id.json").write_text("[1]")
    (mappings / "imagenet_to_label_2012_v2").write_text("b\n")
    assert "$ is [1]; needed: a mapping of names to values" in check(one, tmp_path)[0]
    (mappings / "pytorch_to_imagenet_2012_id.json").write_text('{"0": 5}')
    assert "do not fit together" in check(one, tmp_path)[0]
