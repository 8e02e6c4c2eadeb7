"""Crops against torchvision's, and as functions of (seed, epoch, index) alone."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from micl_bench.data.crops import centre_boxes, draw_crops, random_crops

SCALE, ASPECT = (0.2, 1.0), (3 / 4, 4 / 3)


def same_size(width: int, height: int, number: int) -> NDArray[np.int64]:
    return np.tile([width, height], (number, 1))


def torchvision_box(
    size: NDArray[np.int64], numbers: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """torchvision's own code, fed with these numbers in the order in which it draws."""
    width, height = map(int, size)
    # Per try it draws area and aspect, and after a fit top before left.
    feed = numbers.reshape(-1, 4)
    state = {"try": 0, "aspect": False, "corner": 3}

    def uniform(tensor: torch.Tensor, low: float, high: float) -> torch.Tensor:
        number = feed[state["try"], int(state["aspect"])]
        if state["aspect"]:
            state["try"] += 1
        state["aspect"] = not state["aspect"]
        return tensor.double().fill_(low + (high - low) * number)

    def randint(_: int, high: int, **__: object) -> torch.Tensor:
        number = feed[state["try"] - 1, state["corner"]]
        state["corner"] -= 1
        return torch.tensor(int(number * high))

    monkeypatch.setattr(torch.Tensor, "uniform_", uniform)
    monkeypatch.setattr(torch, "randint", lambda low, high, size: randint(low, high))
    image = torch.empty(3, height, width)
    top, left, h, w = RandomResizedCrop.get_params(image, list(SCALE), list(ASPECT))
    return [left, top, left + w, top + h]


@pytest.mark.parametrize("size", [(500, 375), (96, 96), (7, 5), (1000, 10), (10, 1000), (1, 1)])
def test_boxes_are_torchvisions_given_the_same_numbers(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    N = 100
    random_NR = np.random.default_rng(0).random((N, 40))
    sizes_N2 = same_size(*size, N)
    found_N4 = random_crops(sizes_N2, SCALE, random_NR)
    for found, own, numbers in zip(found_N4, sizes_N2, random_NR, strict=True):
        assert found.tolist() == torchvision_box(own, numbers, monkeypatch)


def test_areas_aspects_and_places_are_distributed_as_torchvisions() -> None:
    N, (width, height) = 4000, (500, 375)
    own_N4 = draw_crops(
        0, 0, np.arange(N), same_size(width, height, N), scale=SCALE, flip=True
    ).box_N4
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    drawn = [RandomResizedCrop.get_params(image, list(SCALE), list(ASPECT)) for _ in range(N)]
    theirs_N4 = np.array([[left, top, left + w, top + h] for top, left, h, w in drawn])

    def measures(box_N4: NDArray) -> dict[str, NDArray]:
        left, top, right, bottom = box_N4.T
        w, h = right - left, bottom - top
        free = {"left": left / np.maximum(width - w, 1), "top": top / np.maximum(height - h, 1)}
        return {"area": w * h, "aspect": w / h, **free}

    own, theirs = measures(own_N4), measures(theirs_N4)
    for name in own:
        assert ks_2samp(own[name], theirs[name]).pvalue > 1e-6, name
    # The test can fail: it finds another range of areas.
    narrow_N4 = draw_crops(
        0, 0, np.arange(N), same_size(width, height, N), scale=(0.3, 1.0), flip=True
    ).box_N4
    assert ks_2samp(measures(narrow_N4)["area"], theirs["area"]).pvalue < 1e-6


def test_every_box_lies_in_its_image() -> None:
    N = 2000
    sizes_N2 = np.random.default_rng(0).integers(1, 40, (N, 2))
    box_N4 = draw_crops(3, 1, np.arange(N), sizes_N2, scale=(0.01, 1.0), flip=False).box_N4
    assert (box_N4[:, :2] >= 0).all()
    assert (box_N4[:, 2:] > box_N4[:, :2]).all()
    assert (box_N4[:, 2:] <= sizes_N2).all()
    assert np.issubdtype(box_N4.dtype, np.integer)


def test_long_images_fall_back_to_the_largest_allowed_box_in_the_middle() -> None:
    sizes_N2 = np.array([[1000, 10], [10, 1000]])
    box_N4 = draw_crops(0, 0, np.arange(2), sizes_N2, scale=SCALE, flip=False).box_N4
    assert box_N4.tolist() == [[493, 0, 506, 10], [0, 493, 10, 506]]


def test_a_crop_depends_on_seed_epoch_and_index_alone() -> None:
    def draw(seed: int, epoch: int, index: list[int]) -> list[tuple]:
        sizes_N2 = same_size(500, 375, len(index))
        crops = draw_crops(seed, epoch, np.array(index), sizes_N2, scale=SCALE, flip=True)
        return [(*box, flip) for box, flip in zip(crops.box_N4.tolist(), crops.flip_N, strict=True)]

    together = draw(1, 2, [5, 9, 7])
    assert together == draw(1, 2, [5]) + draw(1, 2, [9]) + draw(1, 2, [7])
    assert len({*together, *draw(2, 2, [5, 9, 7]), *draw(1, 3, [5, 9, 7])}) == 9


def test_views_of_an_image_have_crops_that_say_nothing_of_each_other() -> None:
    N = 4000
    sizes_N2 = same_size(500, 375, N)
    first, second, default = (
        draw_crops(0, 0, np.arange(N), sizes_N2, scale=SCALE, flip=True, **view)
        for view in ({"view": 0}, {"view": 1}, {})
    )
    assert (first.box_N4 == default.box_N4).all()
    assert (first.box_N4 != second.box_N4).any(axis=1).mean() > 0.99
    for own, other in ((first.box_N4, second.box_N4), (first.flip_N, second.flip_N)):
        related = np.corrcoef(own.reshape(N, -1)[:, 0], other.reshape(N, -1)[:, 0])[0, 1]
        # Five standard deviations of what has nothing to do with each other.
        assert abs(related) < 5 / math.sqrt(N)


def test_half_of_the_crops_are_flipped_or_none() -> None:
    N = 10_000
    sizes_N2 = same_size(8, 8, N)
    flipped = draw_crops(0, 0, np.arange(N), sizes_N2, scale=SCALE, flip=True)
    # Six standard deviations of a fair coin.
    assert abs(flipped.flip_N.mean() - 0.5) < 6 * 0.5 / math.sqrt(N)
    plain = draw_crops(0, 0, np.arange(N), sizes_N2, scale=SCALE, flip=False)
    assert not plain.flip_N.any()
    assert (plain.box_N4 == flipped.box_N4).all()


def test_centre_boxes_are_squares_in_the_middle() -> None:
    box_N4 = centre_boxes(np.array([[400, 200], [101, 300]]), 0.5)
    assert box_N4.tolist() == [[150, 50, 250, 150], [25.25, 124.75, 75.75, 175.25]]
