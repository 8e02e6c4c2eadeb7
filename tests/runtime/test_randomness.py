"""Random words against SplitMix64 in plain Python, golden values, and what they depend on."""

import math

import numpy as np
import pytest

from micl_bench.runtime.randomness import Stream, epoch_order, uniforms, words

MASK = (1 << 64) - 1
VIEWS, CROP = Stream.VIEWS, Stream.CROP


class SplitMix64:
    """Java's SplittableRandom with the golden gamma, on Python's own integers."""

    def __init__(self, state: int) -> None:
        self.state = state & MASK

    def following(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)


def scalar_words(seed: int, epoch: int, index: int, stream: Stream, count: int) -> list[int]:
    key = 0
    for part in (seed, int(stream), epoch, index):
        key = SplitMix64(key + part).following()
    generator = SplitMix64(key)
    return [generator.following() for _ in range(count)]


def test_the_scalar_twin_is_the_published_generator() -> None:
    # The values that implementations of SplitMix64 are commonly checked with, for seed 1234567.
    generator = SplitMix64(1234567)
    assert [generator.following() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


CASES = [
    (0, 0, 0, VIEWS),
    (42, 3, 1_281_166, VIEWS),
    (42, 3, 1_281_166, CROP),
    (MASK, 1 << 40, (1 << 63) - 1, CROP),
    (1 << 63, MASK, 0, VIEWS),
]


@pytest.mark.parametrize(("seed", "epoch", "index", "stream"), CASES)
def test_words_equal_the_scalar_twin(seed: int, epoch: int, index: int, stream: Stream) -> None:
    found = words(seed, epoch, np.array([index]), stream=stream, count=50)
    assert found.dtype == np.uint64
    assert found.tolist() == [scalar_words(seed, epoch, index, stream, 50)]


# A change of these changes every run that is resumed, and every figure that is reproduced.
GOLDEN = [
    [0xF19264EC81B77BD5, 0xA9D7508C3805069E, 0xC6A1B6A60DA636CC],
    [0x8074D2F2E19E7B42, 0xB422E39BEAC960A2, 0xC8A9EB7C7AC96C0B],
    [0x0FD1E1774AB2B702, 0xB404E131F2CED15A, 0x2C7A0C10BDD7F294],
    [0xE1B2184B375EA276, 0x5B4A0473AE690CE0, 0x4D2CB99A7E64D383],
]


@pytest.mark.parametrize(("case", "expected"), zip(CASES, GOLDEN, strict=False))
def test_words_stay_what_they_were(case: tuple[int, int, int, Stream], expected: list[int]) -> None:
    seed, epoch, index, stream = case
    found = words(seed, epoch, np.array([index]), stream=stream, count=3)
    assert found.tolist() == [expected]


def test_the_order_of_an_epoch_stays_what_it_was() -> None:
    assert epoch_order(42, 3, 10).tolist() == [9, 2, 0, 1, 5, 6, 8, 7, 4, 3]


@pytest.mark.parametrize("length", [1, 2, 1000])
def test_the_order_of_an_epoch_is_a_permutation_that_seed_and_epoch_change(length: int) -> None:
    order = epoch_order(0, 0, length)
    assert sorted(order.tolist()) == list(range(length))
    assert (epoch_order(0, 0, length) == order).all()
    if length > 2:
        assert (epoch_order(1, 0, length) != order).any()
        assert (epoch_order(0, 1, length) != order).any()


def test_the_rest_of_the_batch_changes_nothing() -> None:
    batch_N = np.array([7, 5, 0, 5, 10**12])
    whole = words(3, 2, batch_N, stream=VIEWS, count=20)
    for index, row in zip(batch_N, whole, strict=True):
        alone = words(3, 2, np.array([index]), stream=VIEWS, count=20)
        assert (alone[0] == row).all()
        fewer = words(3, 2, np.array([index]), stream=VIEWS, count=4)
        assert (fewer[0] == row[:4]).all()


def test_numbers_can_be_taken_from_any_one_on() -> None:
    index_N = np.arange(4)
    whole = words(3, 2, index_N, stream=CROP, count=20)
    assert (words(3, 2, index_N, stream=CROP, count=13, first=7) == whole[:, 7:]).all()
    found = uniforms(3, 2, index_N, stream=CROP, count=2, first=18)
    assert (found == uniforms(3, 2, index_N, stream=CROP, count=20)[:, 18:]).all()


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint64])
def test_the_type_of_the_index_changes_nothing(kind: type) -> None:
    wanted = words(0, 0, np.arange(9), stream=CROP, count=3)
    assert (words(0, 0, np.arange(9, dtype=kind), stream=CROP, count=3) == wanted).all()


def test_the_index_is_not_written_to() -> None:
    index_N = np.arange(5, dtype=np.uint64)
    words(0, 0, index_N, stream=VIEWS, count=3)
    assert index_N.tolist() == list(range(5))


def test_seed_stream_epoch_and_index_all_matter() -> None:
    # Neighbours in all four at once, where sums or differences of them would meet.
    seen: list[int] = []
    for seed in range(4):
        for epoch in range(4):
            for stream in (VIEWS, CROP):
                found = words(seed, epoch, np.arange(16), stream=stream, count=16)
                seen += found.reshape(-1).tolist()
    # 8,192 words: two of them are equal by chance once in 500,000,000,000 times.
    assert len(set(seen)) == len(seen) == 4 * 4 * 2 * 16 * 16


def test_uniforms_are_the_high_53_bits() -> None:
    found = uniforms(1, 2, np.arange(3), stream=CROP, count=5)
    for index in range(3):
        expected = [(word >> 11) / 2**53 for word in scalar_words(1, 2, index, CROP, 5)]
        assert found[index].tolist() == expected


@pytest.mark.parametrize("stream", [VIEWS, CROP])
def test_uniforms_look_uniform_over_images_and_within_one(stream: Stream) -> None:
    over_images = uniforms(42, 0, np.arange(100_000), stream=stream, count=2)
    within_one = uniforms(42, 0, np.array([3]), stream=stream, count=100_000)[0]
    for sample in (over_images[:, 0], over_images[:, 1], within_one):
        n = len(sample)
        assert sample.min() >= 0
        assert sample.max() < 1
        # Five standard deviations: of a mean sqrt(1 / 12 n), of a mean square about the middle
        # sqrt(1 / 180 n), of the mean product of neighbours about the middle sqrt(1 / 144 n).
        centred = sample - 0.5
        assert abs(centred.mean()) < 5 * math.sqrt(1 / (12 * n))
        assert abs((centred**2).mean() - 1 / 12) < 5 * math.sqrt(1 / (180 * n))
        assert abs((centred[1:] * centred[:-1]).mean()) < 5 * math.sqrt(1 / (144 * n))
