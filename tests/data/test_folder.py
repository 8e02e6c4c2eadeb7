"""Image folders: what cannot be listed is named in one line."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from micl_bench.data.folder import open_folder
from micl_bench.runtime.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


def test_the_digest_tells_names_and_sizes(root: Path) -> None:
    before = open_folder(root).digest
    assert open_folder(root).digest == before
    moved = Path(shutil.copytree(root, root.with_name("elsewhere")))
    assert open_folder(moved).digest == before
    (moved / "a" / "1.png").rename(moved / "a" / "0.png")
    assert open_folder(moved).digest != before
    with (root / "b" / "3.png").open("ab") as file:
        file.write(b"x")
    assert open_folder(root).digest != before


def test_a_broken_link_is_named_in_one_line(root: Path) -> None:
    link = root / "a" / "broken.jpg"
    link.symlink_to("nowhere")
    with pytest.raises(InputError) as caught:
        open_folder(root)
    assert str(caught.value) == f"{link} is a link to nowhere; replace or remove it"
    # Whoever reads images one by one tells of it among the others.
    with pytest.raises(InputError) as caught:
        _ = open_folder(root, but_images=True).digest
    assert str(caught.value) == (
        f"{link} is no readable image (No such file or directory); replace or remove it"
    )


def test_a_file_that_went_meanwhile_is_named(root: Path) -> None:
    folder = open_folder(root)
    (root / "b" / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.png is no readable image"):
        folder.describe()
