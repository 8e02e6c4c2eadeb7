"""Images that cannot be read are found before anything expensive; replaced ones are noticed."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from micl_bench.data.checked import Watch, decode_all, look_at
from micl_bench.data.folder import open_folder
from micl_bench.data.packed.pack import pack_folder
from micl_bench.runtime.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six noisy JPEGs of 64 pixels in two classes."""
    random = np.random.default_rng(0)
    for name in ("a/1.jpg", "a/2.jpg", "a/deep/3.jpg", "b/4.jpg", "b/5.jpg", "b/6.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    return tmp_path / "images"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>404</html>"),
    "header alone": lambda path: path.write_bytes(path.read_bytes()[:300]),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("check", [decode_all, look_at])
@pytest.mark.parametrize("name", ["a/1.jpg", "a/deep/3.jpg", "b/6.jpg"])
def test_a_damaged_image_is_found_whichever_it_is(
    root: Path, check: Callable[..., None], damage: str, name: str
) -> None:
    check(open_folder(root))
    DAMAGE[damage](root / name)
    with pytest.raises(InputError) as caught:
        check(open_folder(root))
    assert str(caught.value).startswith(f"{root / name} is no readable image (")
    assert str(caught.value).endswith("); replace or remove it")


def test_all_damaged_images_are_named_at_once(root: Path) -> None:
    for name in ("a/2.jpg", "b/4.jpg", "b/5.jpg"):
        cut(root / name)
    for check in (decode_all, look_at):
        with pytest.raises(InputError) as caught:
            check(open_folder(root))
        assert f"{root / 'a/2.jpg'} is no readable image" in str(caught.value)
        assert str(caught.value).endswith(" (and 2 more of 6 images: 4.jpg, 5.jpg)")


def test_only_decoding_sees_damage_in_the_middle(root: Path) -> None:
    path = root / "a" / "1.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    look_at(open_folder(root))
    with pytest.raises(InputError, match=r"a/1\.png is no readable image"):
        decode_all(open_folder(root))


def test_an_image_that_is_nothing_but_border_is_found(root: Path) -> None:
    decode_all(dataclasses.replace(open_folder(root), border=31))
    with pytest.raises(InputError, match="no more than the border of 32"):
        decode_all(dataclasses.replace(open_folder(root), border=32))


def test_a_store_was_decoded_when_it_was_packed(root: Path, tmp_path: Path) -> None:
    store = pack_folder(root, tmp_path / "store", layout="image", size=8).store
    decode_all(store)
    look_at(store)
    watch = Watch(store)
    watch.require_unchanged()
    os.utime(store.root / "pixels.bin", ns=(0, 0))
    with pytest.raises(InputError, match=r"pixels\.bin changed while it was read"):
        watch.require_unchanged()


def swapped(path: Path) -> None:
    """By another file of the same size and time of writing."""
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written over": lambda path: Image.new("RGB", (64, 64)).save(path),
    "swapped": swapped,
    "touched": lambda path: os.utime(path, ns=(0, 0)),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_that_changes_meanwhile_is_noticed(root: Path, change: str) -> None:
    watch = Watch(open_folder(root))
    shutil.copy(root / "a" / "1.jpg", root / "a" / "new.jpg")
    (root / "a" / "1.jpg").chmod(0o600)
    watch.require_unchanged()
    CHANGES[change](root / "b" / "5.jpg")
    with pytest.raises(
        InputError, match=r"b/5\.jpg changed while it was read; nothing was recorded"
    ):
        watch.require_unchanged()
