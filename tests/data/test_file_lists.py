"""Few labels: lists mean what they name, draws are of each class and repeat."""

from pathlib import Path

import numpy as np
import pytest

from micl_bench.data.file_lists import (
    count_by_class,
    digest_names,
    drawn_images,
    listed_images,
    split_by_class,
)
from micl_bench.data.folder import Folder, open_folder
from micl_bench.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Two classes in ImageNet's naming, and one name that both have."""
    for name, count in (("n01", 5), ("n02", 20)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "train" / name / f"{name}_{number}.JPEG").touch()
        (tmp_path / "train" / name / "same.JPEG").touch()
    return open_folder(tmp_path / "train")


def write(folder: Folder, *lines: str) -> Path:
    path = folder.root.parent / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def names(folder: Folder) -> list[str]:
    return [path.name for path in folder.paths]


@pytest.mark.parametrize(
    "form", ["{}_{}.JPEG", "{0}/{0}_{1}.JPEG", "/data/train/{0}/{0}_{1}.JPEG "]
)
def test_a_list_names_images_in_any_order(folder: Folder, form: str) -> None:
    lines = [form.format(*pair) for pair in (("n02", 11), ("n01", 3), ("n02", 2))]
    few = listed_images(folder, write(folder, lines[0], "", *lines[1:]))
    assert sorted(names(few)) == ["n01_3.JPEG", "n02_11.JPEG", "n02_2.JPEG"]
    assert [few.classes[label] for label in few.labels] == ["n01", "n02", "n02"]
    assert count_by_class(few) == {"n01": 1, "n02": 2}
    assert few.describe().images == 3
    assert few.describe().digest != folder.describe().digest
    again = listed_images(folder, write(folder, *reversed(lines)))
    assert digest_names(again) == digest_names(few)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("n01_0.JPEG", "n02_0.JPEG", "n03_9.JPEG", "n02_99.JPEG"), "lacks: n03_9.JPEG, n02_99.JPEG"),
        (("n01_0.JPEG", "n02_0.JPEG", "n01_0.JPEG"), "more than once: n01_0.JPEG"),
        (("n01_0.JPEG", "n02_0.JPEG", "n01/n01_0.JPEG"), "with and without their class"),
        (("n01_0.JPEG", "n02_0.JPEG", "same.JPEG"), "several classes: same.JPEG; write <class>/<name>"),
        (("n01_0.JPEG", "n01_1.JPEG"), "names no image of: n02"),
        (("", " "), "is empty"),
    ],
)  # fmt: skip
def test_a_list_that_does_not_fit_is_refused(
    folder: Folder, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        listed_images(folder, write(folder, *lines))


def test_a_missing_list_is_refused(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"cannot read the file list .*none.txt \(No such file"):
        listed_images(folder, folder.root / "none.txt")


def test_a_draw_is_a_share_of_each_class_and_repeats(folder: Folder) -> None:
    few = drawn_images(folder, 0.1, seed=3)
    # Of 6 and 21 images; never none.
    assert count_by_class(few) == {"n01": 1, "n02": 2}
    assert drawn_images(folder, 0.1, seed=3) == few
    others = [names(drawn_images(folder, 0.1, seed=seed)) for seed in range(4, 12)]
    assert len({tuple(found) for found in others}) > 4
    assert drawn_images(folder, 1.0, seed=0) == folder
    with pytest.raises(InputError, match="0 < fraction <= 1"):
        drawn_images(folder, 0.0, seed=0)


def test_a_split_holds_every_image_once() -> None:
    labels_N = np.repeat([0, 2, 1], [10, 30, 1])
    taken, rest = split_by_class(labels_N, 0.2, seed=1)
    assert sorted([*taken, *rest]) == list(range(41))
    assert np.bincount(labels_N[taken]).tolist() == [2, 1, 6]
    nothing, everything = split_by_class(labels_N, 0.0, seed=1)
    assert (len(nothing), everything.tolist()) == (0, list(range(41)))
