"""The bootstrap over images, for numbers that are no mean over images: mIoU, average precision.

They are made of counts over all images, so a resample is a data set in which each image occurs as
often as it was drawn. Resamples are drawn once for a set of images, from their sorted names:
everything measured on the same images is resampled alike, which makes differences paired.

Shapes: R resamples, N images.
"""

import abc
import functools
import math
from collections.abc import Iterator
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from micl_bench.records.evidence.evidence import Evidence, Paired, order_of_images
from micl_bench.records.statistics import p_of_zero, percentiles
from micl_bench.runtime.errors import InputError

_ROUNDS = 2000
_CHUNK = 250


class Counted(Evidence):
    """Evidence that holds counts of each image, and makes metrics, intervals and tests of them."""

    corrected: ClassVar[bool]
    """Intervals are corrected for the bias that the bootstrap finds; see `intervals`."""

    @abc.abstractmethod
    def resampled(self, weights_RN: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
        """Return each metric, in percent, of R data sets that hold image n `weights_RN[:, n]` times.

        It is nan where nothing is measured.
        """

    def metrics(self) -> dict[str, float]:
        """Return each metric, in percent and not rounded; NaN where nothing is measured."""
        values = self.resampled(np.ones((1, len(self.files)), dtype=np.int32))
        return {metric: float(value_R[0]) for metric, value_R in values.items()}

    def draws(self, *, seed: int = 0, rounds: int = _ROUNDS) -> dict[str, NDArray[np.float64]]:
        """Return each metric of `rounds` resamples of the images; nan where one measures nothing."""
        names = np.argsort(np.array(self.files), kind="stable")
        place_N = np.empty_like(names)
        place_N[names] = np.arange(len(names))
        weights = _weights(len(names), seed, rounds)
        chunks = [self.resampled(weights_RN[:, place_N]) for weights_RN in weights]
        return {metric: np.concatenate([chunk[metric] for chunk in chunks]) for metric in chunks[0]}

    def intervals(self, *, seed: int = 0, rounds: int = _ROUNDS) -> dict[str, tuple[float, float]]:
        """Return the interval of each metric, at 95 %, in percent; (nan, nan) where nothing is measured.

        It is made of percentiles of `draws` (Efron and Tibshirani, An Introduction to the Bootstrap,
        1993, section 13.3). Where `corrected`, they lie around the estimate corrected for bias (section
        10.6), not around the mean of the draws, which has the bias twice: with x the metric of the
        images as they are and m the mean of the draws, both ends move by 2 (x - m). The interval
        holds x, and stays within 0 and 100.
        """
        points, found = self.metrics(), {}
        for metric, drawn_R in self.draws(seed=seed, rounds=rounds).items():
            value_R, point = drawn_R[~np.isnan(drawn_R)], points[metric]
            low, high = percentiles(value_R)
            if self.corrected and len(value_R):
                moved = 2 * (point - float(value_R.mean()))
                low = max(0.0, min(low + moved, point))
                high = min(100.0, max(high + moved, point))
            found[metric] = (low, high)
        return found

    def column(self, metric: str) -> NDArray | None:
        """Return the metric of each resample."""
        return self._draws.get(metric)

    def paired(self, other: Evidence, metric: str) -> Paired:
        """Test by the paired bootstrap over images."""
        theirs = cast(Counted, other)
        order_of_images(self, theirs)
        if metric not in self._draws or metric not in theirs._draws:
            raise InputError("it is not made of the results kept of each image")
        values_R = self._draws[metric] - theirs._draws[metric]
        # A resample may measure nothing, as one of images without any object.
        values_R = values_R[~np.isnan(values_R)]
        if math.isnan(p := p_of_zero(values_R)):
            raise InputError("nothing is measured in these images")
        return Paired(interval=percentiles(values_R), p=p, test="bootstrap")

    def changed(self, other: Evidence) -> int:
        """Return the number of all images, if anything was counted in another way; else 0."""
        order_of_images(self, other)
        ours, now = self.arrays(), other.arrays()
        same = ours.keys() == now.keys() and all(np.array_equal(ours[k], now[k]) for k in ours)
        return 0 if same else len(self.files)

    # Resampling a whole COCO takes most of a minute, and a report asks for each metric of each pair.
    @functools.cached_property
    def _draws(self) -> dict[str, NDArray[np.float64]]:
        return self.draws()


def _weights(count: int, seed: int, rounds: int) -> Iterator[NDArray[np.int32]]:
    """Yield the number of times that each of `count` images is drawn, for some resamples at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, rounds, _CHUNK):
        drawn = [
            np.bincount(rng.integers(count, size=count), minlength=count)
            for _ in range(min(_CHUNK, rounds - start))
        ]
        yield np.array(drawn, dtype=np.int32)
