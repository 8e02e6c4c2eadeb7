"""Views: how many patches, which ones, never one twice."""

import pytest
import torch

from micl_bench.errors import InputError
from micl_bench.views import patches_per_view, sample_views


@pytest.mark.parametrize(
    ("mask_ratio", "expected"), [(0.75, 24), (0.8, 19), (0.9, 9), (0.0, 98), (0.5, 49)]
)
def test_published_numbers_of_patches(mask_ratio: float, expected: int) -> None:
    assert patches_per_view(196, mask_ratio=mask_ratio) == expected


def test_rule_holds_where_binary_fractions_are_a_little_low() -> None:
    # In floats 10 * (1 - 0.8) is 1.9999999999999996, and 2 patches must be kept, not 1.
    assert patches_per_view(10, mask_ratio=0.8) == 1


@pytest.mark.parametrize("num_views", [2, 3, 4])
def test_views_are_the_noise_order_split_and_disjoint(num_views: int) -> None:
    noise_NL = torch.rand(5, 64, generator=torch.Generator().manual_seed(0))
    keep_NVK = sample_views(noise_NL, num_views=num_views, mask_ratio=0.5)
    for noise_L, keep_VK in zip(noise_NL.tolist(), keep_NVK.tolist(), strict=True):
        order = sorted(range(64), key=lambda patch: noise_L[patch])
        flat = [patch for view in keep_VK for patch in view]
        assert flat == order[: 32 // num_views * num_views]
        assert len(set(flat)) == len(flat)


@pytest.mark.parametrize(
    ("num_views", "mask_ratio"), [(1, 0.5), (2, 1.0), (2, -0.1), (2, 0.99), (40, 0.5)]
)
def test_impossible_views_are_refused(num_views: int, mask_ratio: float) -> None:
    with pytest.raises(InputError):
        patches_per_view(64, num_views=num_views, mask_ratio=mask_ratio)
