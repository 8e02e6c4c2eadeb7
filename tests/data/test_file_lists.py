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
from micl_bench.runtime.errors import InputError


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
        (("n01_0.JPEG", "n02_0.JPEG", "same.JPEG"), "of several classes or folders: same.JPEG; write"),
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


def test_images_in_inner_folders_are_named_with_them_or_without(folder: Folder) -> None:
    for name in ("n01/deep/er/x.JPEG", "n02/deep/y.JPEG", "n02/z.JPEG", "n02/deep/z.JPEG"):
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).touch()
    folder = open_folder(folder.root)
    for lines in (
        ("x.JPEG", "y.JPEG", "n02/z.JPEG"),
        ("/some/train/n01/deep/er/x.JPEG", "n02/y.JPEG", "train/n02/z.JPEG"),
    ):
        few = listed_images(folder, write(folder, *lines))
        assert few.names == ("n01/deep/er/x.JPEG", "n02/z.JPEG", "n02/deep/y.JPEG")
    with pytest.raises(InputError, match=r"several classes or folders: z\.JPEG"):
        listed_images(folder, write(folder, "x.JPEG", "z.JPEG"))
    with pytest.raises(InputError, match=r"lacks: n02/x\.JPEG, deep/y\.JPEG"):
        listed_images(folder, write(folder, "n02/x.JPEG", "deep/y.JPEG"))


def test_a_name_is_never_found_in_another_class_than_its_line_says(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"lacks: n02/n01_0\.JPEG"):
        listed_images(folder, write(folder, "n02/n01_0.JPEG", "n02/n02_0.JPEG"))


def test_odd_names_can_be_listed(folder: Folder) -> None:
    odd = [" blanks ", "sep\u2028arator", "caf\udce9", "two\nlines", "b\\s"]
    for name in odd:
        (folder.root / "n01" / f"{name}.png").touch()
    folder = open_folder(folder.root)
    lines = [name for name in folder.names if name.endswith(".png")]
    assert len(lines) == len(odd)
    few = listed_images(folder, write(folder, *lines, "n02/n02_1.JPEG"))
    assert [name for name in few.names if name.endswith(".png")] == lines
