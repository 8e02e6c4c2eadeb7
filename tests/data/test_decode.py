"""Decoding: what files hold in practice has one outcome each, in the reader and in the packer."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.datasets.folder import pil_loader

from micl_bench.data.folder import read_image, read_sized_image
from micl_bench.data.pixels import Pixels, evaluation_pixels
from micl_bench.runtime.errors import InputError

CHINA, FLOWER = load_sample_images().images
PHOTO = Image.fromarray(CHINA).crop((0, 0, 500, 375))


def pixels_of(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def make_truncated(path: Path) -> None:
    PHOTO.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_huge(path: Path) -> None:
    # 400 million pixels in 50 kB.
    Image.new("1", (20_000, 20_000)).save(path, "PNG")


def make_deep_tiff(path: Path) -> None:
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(path, "TIFF")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated.jpg": (make_truncated, "truncated"),
    "empty.jpg": (Path.touch, "it is empty"),
    "text.jpg": (lambda path: path.write_text("no image at all\n"), "none of JPEG, PNG"),
    "header only.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "none of JPEG, PNG"),
    "folder.jpg": (Path.mkdir, "it is not a file"),
    "pipe.jpg": (os.mkfifo, "it is not a file"),
    "broken link.jpg": (lambda path: path.symlink_to("nowhere.jpg"), "No such file"),
    "huge.png": (make_huge, "decompression bomb"),
    "deep.tif": (make_deep_tiff, "more than 8 bits"),
    "postscript.jpg": (lambda path: PHOTO.save(path, "EPS"), "none of JPEG, PNG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_image_is_refused_by_name(tmp_path: Path, name: str) -> None:
    make, words = REFUSED[name]
    path = tmp_path / name
    make(path)
    for at_least in (0, 512):
        with pytest.raises(InputError, match=words) as caught:
            read_image(path, at_least=at_least)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_cmyk_is_converted_in_the_right_polarity(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    PHOTO.convert("CMYK").save(path, quality=95)
    # Adobe's marker: the file holds inverted values, as Photoshop writes them.
    content = path.read_bytes()
    marker = content.index(b"\xff\xee")
    assert content[marker + 4 : marker + 9] == b"Adobe"
    # JPEG's own error at quality 95 is 0.8 grey levels here; the negative is 155 away.
    difference = np.abs(pixels_of(read_image(path)) - pixels_of(PHOTO)).mean()
    negative = np.abs(255 - pixels_of(read_image(path)) - pixels_of(PHOTO)).mean()
    assert difference < 2
    assert negative > 100


def test_grey_becomes_rgb(tmp_path: Path) -> None:
    grey = PHOTO.convert("L")
    grey.save(tmp_path / "grey.png")
    expected = np.repeat(pixels_of(grey)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(pixels_of(read_image(tmp_path / "grey.png")), expected)


def test_sixteen_bits_of_a_png_are_scaled(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = pixels_of(read_image(tmp_path / "deep.png"))
    assert image.shape == (256, 256, 3)
    np.testing.assert_array_equal(image, np.repeat((values // 256)[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "GIF"), ("a.webp", "WEBP"), ("a.png", "PNG"), ("a.jpg", "GIF")]
)
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, name: str, kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(pixels_of(read_image(tmp_path / name)), pixels_of(frames[0]))


def test_content_counts_not_the_extension(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "png inside.jpg", "PNG")
    np.testing.assert_array_equal(
        pixels_of(read_image(tmp_path / "png inside.jpg")), pixels_of(PHOTO)
    )


@pytest.mark.parametrize("name", ["a b.png", "日本 ü.png", "two\nlines.png", "-o.png", "%s{}.png"])
def test_any_name_works(tmp_path: Path, name: str) -> None:
    PHOTO.save(tmp_path / name)
    np.testing.assert_array_equal(pixels_of(read_image(tmp_path / name)), pixels_of(PHOTO))


def test_orientation_is_not_applied_as_in_torchvision(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    PHOTO.save(path, exif=exif)
    assert read_image(path).size == PHOTO.size
    np.testing.assert_array_equal(pixels_of(read_image(path)), pixels_of(pil_loader(str(path))))


def test_a_small_jpeg_is_decoded_in_full(tmp_path: Path) -> None:
    path = tmp_path / "small.jpg"
    PHOTO.save(path)
    reduced, size = read_sized_image(path, at_least=512)
    assert size == reduced.size == (500, 375)
    np.testing.assert_array_equal(pixels_of(reduced), pixels_of(pil_loader(str(path))))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_smaller_with_hardly_a_difference(
    tmp_path: Path, progressive: bool
) -> None:
    # Photographs side by side, so that the detail is as fine as a camera's, not an enlargement's.
    mosaic = np.tile(np.concatenate([CHINA, FLOWER], axis=1), (4, 2, 1))[:1500, :2000]
    path = tmp_path / "large.jpg"
    Image.fromarray(mosaic).save(path, quality=90, progressive=progressive)
    reduced, size = read_sized_image(path, at_least=512)
    assert size == (2000, 1500)
    assert reduced.size == (1000, 750)
    small, full, lossless = (
        evaluation_pixels(image, Pixels(img_size=224)).numpy().astype(int)
        for image in (reduced, read_image(path), Image.fromarray(mosaic))
    )
    # Measured: 0.39 grey levels in the mean (8 at most), against 0.51 that JPEG's quality 90 took.
    assert np.abs(small - full).mean() < np.abs(full - lossless).mean()
    assert np.abs(small - full).max() <= 12
