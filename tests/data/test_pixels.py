"""The geometry of training images read from files."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from micl_bench.data.pixels import Pixels, evaluation_pixels, training_crops, training_pixels

RANDOM = Pixels(img_size=32, crop_scale=(0.2, 1.0), flip=True)
CENTRE = Pixels(img_size=32, crop_pct=0.5, flip=True)


def a_picture(width: int = 60, height: int = 40) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_nothing_outside_the_crop_shows() -> None:
    image, box_4 = a_picture(), np.array([11, 7, 40, 29])
    lonely = Image.new("RGB", image.size)
    lonely.paste(image.crop((11, 7, 40, 29)), (11, 7))
    found = training_pixels(image, RANDOM, box_4, flip=False)
    assert found.shape == (3, 32, 32)
    assert found.dtype == torch.uint8
    assert torch.equal(found, training_pixels(lonely, RANDOM, box_4, flip=False))


def test_a_flip_mirrors_left_and_right() -> None:
    image, box_4 = a_picture(), np.array([11, 7, 40, 29])
    plain = training_pixels(image, RANDOM, box_4, flip=False)
    assert torch.equal(training_pixels(image, RANDOM, box_4, flip=True), plain.flip(2))


def test_without_random_crops_training_sees_what_evaluation_sees() -> None:
    image, index_N, sizes_N2 = a_picture(), np.arange(50), np.tile([60, 40], (50, 1))
    crops = training_crops(0, 0, index_N, sizes_N2, CENTRE)
    assert (crops.box_N4 == [20, 10, 40, 30]).all()
    assert len({*crops.flip_N.tolist()}) == 2
    found = training_pixels(image, CENTRE, crops.box_N4[0], flip=False)
    assert torch.equal(found, evaluation_pixels(image, CENTRE))


def test_random_crops_keep_their_flips_when_the_scale_changes() -> None:
    index_N, sizes_N2 = np.arange(50), np.tile([60, 40], (50, 1))
    random = training_crops(0, 0, index_N, sizes_N2, RANDOM)
    centre = training_crops(0, 0, index_N, sizes_N2, CENTRE)
    assert (random.flip_N == centre.flip_N).all()
    assert len(np.unique(random.box_N4, axis=0)) == 50


@pytest.mark.parametrize("turned", [False, True])
def test_a_strip_is_cut_out_of_what_resizing_it_gives(turned: bool) -> None:
    # Grey levels of 64 to 191, so that the exact result needs no clipping at 0 or 255.
    strip = Image.fromarray(np.asarray(a_picture(20, 800)) // 2 + 64)
    bands = [
        band.convert("F").resize((40, 1600), Image.Resampling.BICUBIC) for band in strip.split()
    ]
    exact = np.stack([np.asarray(band.crop((4, 784, 36, 816))) for band in bands])
    if turned:
        strip, exact = strip.transpose(Image.Transpose.TRANSPOSE), exact.transpose(0, 2, 1)
    found = evaluation_pixels(strip, Pixels(img_size=32, crop_pct=0.8)).numpy()
    # Rounded to whole levels after rows, half a level off, and again after columns; in between, the
    # bicubic weights, whose absolute values sum to 1.25 at most, enlarge the first.
    assert np.abs(found - exact).max() <= 0.5 * 1.25 + 0.5 + 0.01


def test_only_the_kept_part_of_a_strip_takes_memory() -> None:
    # In full it would be 256 by a thousand million pixels.
    strip = Image.new("RGB", (1, 4_000_000), (10, 20, 30))
    found = evaluation_pixels(strip, Pixels(img_size=224))
    assert found.shape == (3, 224, 224)
    assert found.flatten(1).unique(dim=1).T.tolist() == [[10, 20, 30]]


def test_ordinary_images_are_resized_in_full_then_cut() -> None:
    image = a_picture(640, 20)
    wanted = image.resize((1024, 32), Image.Resampling.BICUBIC).crop((496, 0, 528, 32))
    found = evaluation_pixels(image, Pixels(img_size=32, crop_pct=1.0))
    assert (found.permute(1, 2, 0).numpy() == np.asarray(wanted)).all()


def _sizes() -> list[tuple[int, int]]:
    rng = np.random.default_rng(5)
    drawn = [(int(w), int(h)) for w, h in rng.integers(8, 700, (40, 2))]
    # Photographs; sizes whose long side falls on a half or just below a whole; tiny; too small.
    named = [(500, 375), (375, 500), (500, 333), (64, 67), (65, 64), (224, 224), (256, 257), (9, 2)]
    return [size for size in drawn + named if max(size) <= 32 * min(size)]


@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 1.0])
def test_evaluation_has_the_bits_of_torchvision(crop_pct: float) -> None:
    for img_size in (224, 32, 97):
        short = int(img_size / crop_pct)
        theirs = v2.Compose(
            [
                v2.Resize(short, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
                v2.CenterCrop(img_size),
                v2.PILToTensor(),
            ]
        )
        for size in _sizes()[:: 1 if img_size == 224 else 4]:
            image = a_picture(*size)
            found = evaluation_pixels(image, Pixels(img_size=img_size, crop_pct=crop_pct))
            assert torch.equal(found, theirs(image)), (size, img_size)
