"""Views: how many patches, which ones, never one twice."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream, words
from micl_bench.views import draw_views, patches_per_view, sample_views


@pytest.mark.parametrize(
    ("mask_ratio", "expected"), [(0.75, 24), (0.8, 19), (0.9, 9), (0.0, 98), (0.5, 49)]
)
def test_published_numbers_of_patches(mask_ratio: float, expected: int) -> None:
    assert patches_per_view(196, mask_ratio=mask_ratio) == expected


def test_rule_holds_where_binary_fractions_are_a_little_low() -> None:
    # In floats 10 * (1 - 0.8) is 1.9999999999999996, and 2 patches must be kept, not 1.
    assert patches_per_view(10, mask_ratio=0.8) == 1


@pytest.mark.parametrize("num_views", [1, 2, 3, 4])
def test_views_are_the_noise_order_split_and_disjoint(num_views: int) -> None:
    noise_NL = torch.rand(5, 64, generator=torch.Generator().manual_seed(0))
    keep_NVK = sample_views(noise_NL, num_views=num_views, mask_ratio=0.5)
    for noise_L, keep_VK in zip(noise_NL.tolist(), keep_NVK.tolist(), strict=True):
        order = sorted(range(64), key=lambda patch: noise_L[patch])
        flat = [patch for view in keep_VK for patch in view]
        assert flat == order[: 32 // num_views * num_views]
        assert len(set(flat)) == len(flat)


@pytest.mark.parametrize(
    ("num_views", "mask_ratio"), [(0, 0.5), (2, 1.0), (2, -0.1), (2, 0.99), (40, 0.5)]
)
def test_impossible_views_are_refused(num_views: int, mask_ratio: float) -> None:
    with pytest.raises(InputError):
        patches_per_view(64, num_views=num_views, mask_ratio=mask_ratio)


@pytest.mark.parametrize(
    ("num_patches", "num_views", "mask_ratio"),
    [
        (2, 2, 0.0),
        (7, 1, 0.0),
        (5, 2, 0.5),
        (5, 4, 0.1),
        (64, 3, 0.25),
        (196, 2, 0.9),
        (256, 4, 0.0),
    ],
)
def test_drawn_views_are_those_of_the_words_as_noise(
    num_patches: int, num_views: int, mask_ratio: float
) -> None:
    index_N = np.array([3, 0, 1_281_166, 3])
    words_NL = words(42, 7, index_N, stream=Stream.VIEWS, count=num_patches)
    # The low bits, as many as number a patch, are not part of the noise. Integers: torch sorts no
    # unsigned words, and a float would lose bits.
    noise_NL = (words_NL >> np.uint64(max(1, (num_patches - 1).bit_length()))).astype(np.int64)
    shape = {"num_views": num_views, "mask_ratio": mask_ratio}
    expected = sample_views(torch.from_numpy(noise_NL), **shape)
    found = draw_views(42, 7, index_N, num_patches=num_patches, **shape)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)


def test_drawn_views_depend_on_seed_epoch_and_index_alone() -> None:
    def draw(seed: int, epoch: int, *index: int) -> torch.Tensor:
        return draw_views(seed, epoch, np.array(index), num_patches=196, mask_ratio=0.9)

    batch = draw(1, 2, 5, 9, 5)
    assert torch.equal(batch[0], batch[2])
    assert torch.equal(batch[1:2], draw(1, 2, 9))
    torch.manual_seed(0)
    np.random.seed(0)
    assert torch.equal(batch, draw(1, 2, 5, 9, 5))
    others = [draw(0, 2, 5), draw(1, 3, 5), draw(1, 2, 6)]
    assert not any(torch.equal(batch[:1], other) for other in others)


@pytest.mark.parametrize(
    ("num_views", "mask_ratio", "expected"),
    [(2, 0.9, 9), (2, 0.75, 24), (2, 0.8, 19), (3, 0.9, 6), (4, 0.75, 12), (2, 0.0, 98)],
)
def test_drawn_views_are_disjoint_and_of_the_published_size(
    num_views: int, mask_ratio: float, expected: int
) -> None:
    keep_NVK = draw_views(
        0, 0, np.arange(50), num_patches=196, num_views=num_views, mask_ratio=mask_ratio
    )
    assert keep_NVK.shape == (50, num_views, expected)
    for keep_VK in keep_NVK:
        kept = keep_VK.flatten().tolist()
        assert len(set(kept)) == len(kept)
        assert set(kept) <= set(range(196))


@pytest.mark.parametrize("num_patches", [16, 49])
def test_each_patch_is_kept_equally_often_in_each_view(num_patches: int) -> None:
    N, L = 20_000, num_patches
    keep_NVK = draw_views(42, 1, np.arange(N), num_patches=L, num_views=2, mask_ratio=0.5)
    K = keep_NVK.shape[2]
    for view in range(2):
        count_L = np.bincount(keep_NVK[:, view].flatten().numpy(), minlength=L)
        # K of L without putting back: a patch's count varies by N p (1 - p), the counts' sum not at
        # all; scaled so, the squares sum to chi-square with L - 1 degrees of freedom.
        share = K / L
        squares = ((count_L - N * share) ** 2).sum() / (N * share * (1 - share))
        # Passed by chance once in a million times, on either side.
        low, high = chi2.ppf([1e-6, 1 - 1e-6], L - 1)
        assert low < squares * (L - 1) / L < high
