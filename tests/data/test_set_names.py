"""A data set is called as the folder that holds it is, however it is reached."""

from pathlib import Path

import pytest

from micl_bench.data.folder import set_and_split


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("flowers/train", "flowers/val", "elsewhere/held_out", "imagenet"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "flowers" / "test").symlink_to(tmp_path / "elsewhere" / "held_out")
    (tmp_path / "link").symlink_to("flowers")
    (tmp_path / "imagenet" / "set").symlink_to(tmp_path / "flowers" / "val")
    monkeypatch.chdir(tmp_path / "flowers" / "train")
    return tmp_path


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("{}/flowers/train", ("flowers", "train")),
        ("{}/flowers/val/", ("flowers", "val")),
        ("{}/flowers", ("flowers", "all")),
        ("{}/flowers/", ("flowers", "all")),
        (".", ("flowers", "train")),
        ("..", ("flowers", "all")),
        ("../val", ("flowers", "val")),
        ("../val/../train/.", ("flowers", "train")),
        ("../../flowers/val", ("flowers", "val")),
        # Links: in the place of a split, of the set, and to a split.
        ("{}/flowers/test", ("flowers", "test")),
        ("{}/link/val", ("flowers", "val")),
        ("{}/imagenet/set", ("flowers", "val")),
        ("/", ("unnamed", "all")),
    ],
)
def test_name_and_split_of_a_folder(flowers: Path, place: str, expected: tuple[str, str]) -> None:
    assert set_and_split(Path(place.format(flowers))) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("caf\udce9", "caf\\xe9"),
        ("two\nlines", "two\\u000alines"),
        ("x" * 255, f"{'x' * 22}...{'x' * 23}"),
    ],
)
def test_names_of_sets_are_short_lines_of_text(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name / "val").mkdir(parents=True)
    assert set_and_split(tmp_path / name / "val") == (expected, "val")
