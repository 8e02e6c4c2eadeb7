"""Changes of pixels against torchvision's, image by image; draws against closed forms."""

import dataclasses
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare, kstest
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import functional as F

from micl_bench.data.photometric import (
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    Changes,
    Photometric,
    blend,
    blur,
    changed,
    draw_changes,
    solarise,
    turn_hue,
)
from micl_bench.data.to_device import each_tensor
from micl_bench.runtime.errors import InputError

# Single precision of numbers up to 255, a few of them added: 255 * 2^-23 is 3e-5.
TOLERANCE = 3e-4
# Both of BYOL's views, of which it says that blur and solarise differ; DINO's and MoCo v3's are these.
FIRST = Photometric(
    jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=1.0
)
SECOND = dataclasses.replace(FIRST, blur=0.1, solarise=0.2)
STRONG = Photometric(
    jitter=1.0, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, grey=0.2, blur=0.5
)
ADJUST = {
    BRIGHTNESS: F.adjust_brightness,
    CONTRAST: F.adjust_contrast,
    SATURATION: F.adjust_saturation,
}


def images(number: int, side: int = 20) -> Tensor:
    """Noise, and areas of one colour, of grey, black and white, where hue and order could go wrong."""
    generator = torch.Generator().manual_seed(0)
    found = torch.rand(number, 3, side, side, generator=generator) * 255
    found[:, :, :4] = torch.tensor([200.0, 60, 10]).view(3, 1, 1)
    found[:, :, 4:6] = 77
    found[:, :, 6:8] = torch.tensor([0.0, 255])[:, None].expand(2, side)
    found[:, :2, 8:10] = 130
    return found


@pytest.mark.parametrize("kind", ADJUST)
@pytest.mark.parametrize("other", ADJUST)
def test_a_blend_is_torchvisions_adjustment_whatever_the_other_images_have(
    kind: int, other: int
) -> None:
    images_BCHW = images(7)
    factor_B = torch.tensor([0.0, 0.2, 0.7, 1.0, 1.3, 1.8, 3.0])
    kind_B = torch.tensor([kind, other, kind, kind, other, kind, other])
    found = blend(images_BCHW, kind_B, factor_B)
    for one, image, which, factor in zip(found, images_BCHW, kind_B, factor_B, strict=True):
        expected = ADJUST[int(which)](image / 255, float(factor)) * 255
        assert (one - expected).abs().max() < TOLERANCE
    assert torch.equal(found[3], images_BCHW[3])


def test_hue_turns_as_torchvisions() -> None:
    images_BCHW = images(7)
    turn_B = torch.tensor([-0.5, -0.2, -0.01, 0.0, 0.1, 0.33, 0.5])
    found = turn_hue(images_BCHW, turn_B)
    for one, image, turn in zip(found, images_BCHW, turn_B, strict=True):
        assert (one - F.adjust_hue(image / 255, float(turn)) * 255).abs().max() < TOLERANCE
    # Red turned by a third is green.
    red = torch.tensor([255.0, 0, 0]).view(1, 3, 1, 1)
    green = turn_hue(red, torch.tensor([1 / 3])).flatten()
    assert (green - torch.tensor([0.0, 255, 0])).abs().max() < TOLERANCE


@pytest.mark.parametrize("side", [12, 20, 64])
def test_blur_is_torchvisions_with_23_pixels(side: int) -> None:
    images_BCHW, sigma_B = images(4, side), torch.tensor([0.1, 0.5, 1.3, 2.0])
    found = blur(images_BCHW, sigma_B)
    for one, image, sigma in zip(found, images_BCHW, sigma_B, strict=True):
        expected = F.gaussian_blur(image.double(), [23, 23], [float(sigma)])
        assert (one - expected).abs().max() < TOLERANCE


def test_a_small_image_is_blurred_by_as_many_pixels_as_its_reflection_has() -> None:
    images_BCHW = images(1, side=10)[:, :, :6, :6]
    expected = F.gaussian_blur(images_BCHW.double(), [11, 11], [2.0])
    assert (blur(images_BCHW, torch.tensor([2.0])) - expected).abs().max() < TOLERANCE


def test_images_are_solarised_at_128() -> None:
    images_BCHW = images(3)
    images_BCHW[0, 0, 0, :3] = torch.tensor([127.9, 128.0, 128.1])
    found = solarise(images_BCHW)
    expected = 255 * F.solarize(images_BCHW / 255, 128 / 255)
    assert (found - expected).abs().max() < TOLERANCE
    torch.testing.assert_close(found[0, 0, 0, :3], torch.tensor([127.9, 127.0, 126.9]))


def one_by_one(image_CHW: Tensor, changes: Changes, number: int) -> Tensor:
    """torchvision's functions on one image, in the order that was drawn for it."""
    image = image_CHW.double() / 255
    parts = changes.turned.split(changes.turned_before)
    for place, turned in enumerate(parts):
        if number in turned.tolist():
            image = F.adjust_hue(image, float(changes.turn_B[number]))
        adjust = ADJUST[int(changes.kind_B4[number, place])]
        image = adjust(image, float(changes.factor_B4[number, place]))
    if number in (rows := changes.blurred.tolist()):
        image = F.gaussian_blur(image, [23, 23], [float(changes.sigma[rows.index(number)])])
    if number in changes.solarised.tolist():
        image = F.solarize(image, 128 / 255)
    return image * 255


def test_a_batch_is_changed_as_each_image_alone_by_torchvision() -> None:
    index_N = np.arange(40)
    changes = draw_changes(3, 1, index_N, [STRONG, dataclasses.replace(STRONG, solarise=0.5)])
    images_BCHW = images(80)
    before = images_BCHW.clone()
    found = changed(images_BCHW, changes)
    assert torch.equal(images_BCHW, before)
    assert len(set(map(tuple, changes.kind_B4.tolist()))) == 6
    assert all(changes.turned_before)
    assert 0 < len(changes.solarised) < 40
    for number in range(80):
        expected = one_by_one(images_BCHW[number], changes, number)
        difference = (found[number] - expected).abs()
        # A value within rounding of 128 may be solarised on one side alone.
        near = (expected - 127.5).abs() < 0.6
        assert difference[~near].max() < 3 * TOLERANCE, number


def test_whole_numbers_are_taken_and_nothing_may_be_changed() -> None:
    changes = draw_changes(3, 1, np.arange(5), [Photometric()])
    pixels = images(5).to(torch.uint8)
    found = changed(pixels, changes)
    assert found.dtype == torch.float32
    assert torch.equal(found, pixels.float())


def drawn(views: list[Photometric], number: int = 20_000, **changes: int) -> Changes:
    arguments = {"seed": 5, "epoch": 2, **changes}
    return draw_changes(arguments["seed"], arguments["epoch"], np.arange(number), views)


def assert_share(found: Tensor | NDArray, probability: float) -> None:
    """A share of independent draws, within five standard deviations of its probability."""
    flags = np.asarray(found, dtype=float)
    assert abs(flags.mean() - probability) <= 5 * math.sqrt(
        probability * (1 - probability) / flags.size
    )


def factor_of(changes: Changes, kind: int) -> NDArray[np.float32]:
    """Each crop's factor of this kind, wherever its order has it; not its grey."""
    of_kind = changes.kind_B4[:, :3] == kind
    assert (of_kind.sum(1) == 1).all()
    return changes.factor_B4[:, :3][of_kind].numpy()


def flags(rows: Tensor, length: int) -> NDArray[np.bool_]:
    found = np.zeros(length, dtype=bool)
    found[rows.numpy()] = True
    return found


def test_each_change_has_its_probability_in_each_view() -> None:
    changes = drawn([FIRST, SECOND])
    B = 40_000
    jittered = factor_of(changes, BRIGHTNESS) != 1
    turned, blurred = flags(changes.turned, B), flags(changes.blurred, B)
    assert (turned == jittered).all()
    grey = changes.factor_B4[:, 3].numpy() == 0
    assert set(changes.factor_B4[:, 3].tolist()) == {0.0, 1.0}
    solarised = flags(changes.solarised, B)
    for view, of in enumerate((FIRST, SECOND)):
        own = slice(view, None, 2)
        assert_share(jittered[own], of.jitter)
        assert_share(grey[own], of.grey)
        assert_share(blurred[own], of.blur)
        assert_share(solarised[own], of.solarise)
    # Independent of each other, and of the other view of the same image.
    second = slice(1, None, 2)
    assert_share(jittered & grey, 0.8 * 0.2)
    assert_share((blurred & solarised)[second], 0.1 * 0.2)
    assert_share(jittered[0::2] & jittered[1::2], 0.8 * 0.8)


def test_factors_turns_and_sigmas_are_uniform() -> None:
    changes = drawn([dataclasses.replace(STRONG, brightness=1.4)])
    for kind, low, high in ((BRIGHTNESS, 0, 2.4), (CONTRAST, 0.2, 1.8), (SATURATION, 0.2, 1.8)):
        assert kstest(factor_of(changes, kind), "uniform", (low, high - low)).pvalue > 1e-3
    assert kstest(changes.turn_B.numpy(), "uniform", (-0.2, 0.4)).pvalue > 1e-3
    assert kstest(changes.sigma.numpy(), "uniform", (0.1, 1.9)).pvalue > 1e-3
    factors = [factor_of(changes, kind) for kind in ADJUST]
    numbers = np.corrcoef([*factors, changes.turn_B.numpy()])
    assert np.abs(numbers - np.eye(4)).max() < 5 / math.sqrt(20_000)


def test_all_orders_are_equally_frequent() -> None:
    changes = drawn([STRONG])
    place = np.zeros(20_000, dtype=int)
    for before, rows in enumerate(changes.turned.split(changes.turned_before)):
        place[rows.numpy()] = before
    orders = [(*kinds[:before], 3, *kinds[before:]) for kinds, before in zip(
        changes.kind_B4[:, :3].tolist(), place, strict=True
    )]  # fmt: skip
    counts = [orders.count(order) for order in permutations(range(4))]
    assert sum(counts) == 20_000
    assert chisquare(counts).pvalue > 1e-3


def test_draws_depend_on_seed_epoch_index_and_view_alone() -> None:
    views = [FIRST, SECOND, FIRST]
    index_N = np.array([9, 4, 7])
    whole = draw_changes(5, 2, index_N, views)
    pictures = images(9)
    found = changed(pictures, whole).unflatten(0, (3, 3))
    for number, index in enumerate(index_N):
        alone = draw_changes(5, 2, np.array([index]), views)
        own = changed(pictures[3 * number : 3 * number + 3], alone)
        torch.testing.assert_close(found[number], own, rtol=0, atol=TOLERANCE)
        # Another view behind changes nothing in those before.
        fewer = draw_changes(5, 2, np.array([index]), views[:2])
        assert torch.equal(fewer.factor_B4, alone.factor_B4[:2])
    strong = drawn([STRONG, STRONG], 100)
    assert (strong.factor_B4[0::2, :3] != strong.factor_B4[1::2, :3]).all()
    for other in (drawn([STRONG, STRONG], 100, seed=6), drawn([STRONG, STRONG], 100, epoch=3)):
        assert (strong.factor_B4[:, :3] != other.factor_B4[:, :3]).all()


def test_no_device_is_asked_for_a_value() -> None:
    # Fake tensors hold no values: .item() or indexing by a mask would raise.
    changes, images_BCHW = drawn([STRONG], 12), images(12)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = each_tensor(
            {"images": images_BCHW, "changes": changes},
            lambda tensor: mode.from_tensor(tensor).to("cuda"),
        )
        found = changed(fake["images"], fake["changes"])
    assert found.shape == images_BCHW.shape
    assert found.device.type == "cuda"


def test_half_precision_around_it_changes_nothing() -> None:
    changes, images_BCHW = drawn([STRONG], 12), images(12)
    with torch.autocast("cpu", torch.bfloat16):
        inside = changed(images_BCHW, changes)
    assert torch.equal(inside, changed(images_BCHW, changes))


@pytest.mark.parametrize("values", [{"hue": 0.6}, {"grey": 1.1}, {"contrast": -0.1}], ids=str)
def test_impossible_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="needed"):
        Photometric(**values)
