"""Random numbers that are functions of (seed, epoch, index) alone.

No generator is carried along: a run can be cut anywhere, split over any number of workers and
processes, and still draws for each image of each epoch what an uncut run draws.

The stream of an image is SplitMix64 (Steele, Lea and Flood 2014) started at a hash of (seed, stream,
epoch, index); all images of a batch are drawn at once.
"""

import enum

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Stream(enum.IntEnum):
    """Separate streams: an image's views stay the same when its crop draws more numbers."""

    ORDER = 0
    VIEWS = 1
    CROP = 2
    AUGMENT = 3
    ERASE = 4
    MIX = 5
    PATHS = 6
    PHOTOMETRIC = 7
    BLOCKS = 8


def words(
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
    *,
    stream: Stream,
    count: int,
    first: int = 0,
) -> Words:
    """Random 64-bit words (N, count), those of each image from its word `first` on."""
    with np.errstate(over="ignore"):
        start: Words = np.zeros((), dtype=np.uint64)
        for part in (seed, int(stream), epoch):
            start = _mix(np.asarray(start + _GOLDEN + np.uint64(part)))
        key_N = _mix(start + _GOLDEN + index_N.astype(np.uint64))
        return _mix(
            key_N[:, None] + _GOLDEN * np.arange(first + 1, first + count + 1, dtype=np.uint64)
        )


def uniforms(
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
    *,
    stream: Stream,
    count: int,
    first: int = 0,
) -> NDArray[np.float64]:
    """Random numbers in [0, 1), (N, count), of 53 bits each, from each image's number `first` on."""
    found = words(seed, epoch, index_N, stream=stream, count=count, first=first)
    high = found >> np.uint64(11)
    return high.astype(np.float64) * 2.0**-53


def epoch_order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """A permutation of the images for one epoch."""
    return np.random.default_rng((seed, Stream.ORDER, epoch)).permutation(length)


def _mix(word: Words) -> Words:
    """SplitMix64's finaliser; in place on arrays, where temporaries would cost more than the sums."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word ^= word >> np.uint64(shift)
        word *= np.uint64(factor)
    word ^= word >> np.uint64(31)
    return word
