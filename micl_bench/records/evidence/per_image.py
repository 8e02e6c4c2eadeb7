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
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from micl_bench.records.evidence.evidence import Evidence, Paired
from micl_bench.records.statistics import p_of_zero, percentiles
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_path, digest_file, temporary_file, to_disk
from micl_bench.runtime.npz import Arrays
from micl_bench.runtime.wording import counted, plural

_SEED = 0
_CHUNK = 250
_DIGITS = 10


class Counted(abc.ABC):
    """Evidence that holds counts of each image, and makes metrics, intervals and tests of them."""

    kind: ClassVar[str]
    files: tuple[str, ...]
    """Names of the N images, each once."""

    @property
    @abc.abstractmethod
    def tolerance(self) -> float:
        """Percentage points by which a library's metric, rounded as it rounds, may be away."""

    @property
    @abc.abstractmethod
    def corrected(self) -> bool:
        """Whether intervals are corrected for the bias that the bootstrap finds; see `intervals`."""

    @abc.abstractmethod
    def resampled(self, weights_RN: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
        """Each metric, in percent, of R data sets that hold image n `weights_RN[:, n]` times."""

    @abc.abstractmethod
    def arrays(self) -> Arrays:
        """What is written of it, without pickle."""

    def metrics(self) -> dict[str, float]:
        """Each metric, in percent and not rounded; NaN where nothing is measured."""
        return measured(self)

    def intervals(self, *, seed: int = _SEED) -> dict[str, tuple[float, float]]:
        """Both ends at 95 % of each metric: `per_image.intervals`."""
        return intervals(self, seed=seed)

    def reasons(self) -> dict[str, str]:
        """None: a library reports no such metric."""
        return {}

    def check(self, stated: dict[str, float]) -> None:
        """Check that metrics, rounded as their library rounds, are made of these counts.

        Raises:
            InputError: one is not.
        """
        known = self.metrics()
        check_agreement(self, {name: value for name, value in stated.items() if name in known})

    def column(self, metric: str) -> NDArray | None:
        """The metric of each resample."""
        return self._draws.get(metric)

    def paired(self, other: Evidence, metric: str) -> Paired:
        """The paired bootstrap over images.

        Raises:
            InputError: other images, or the metric cannot be made of both.
        """
        theirs = cast(Counted, other)
        self._require_same(theirs)
        if metric not in self._draws or metric not in theirs._draws:
            raise InputError("it is not made of what is kept of each image")
        low, high, p = paired(self._draws, theirs._draws)[metric]
        if math.isnan(p):
            raise InputError("nothing is measured in these images")
        return Paired(interval=(low, high), p=p, test="bootstrap")

    def changed(self, other: Evidence) -> int:
        """All images, where anything was counted in another way."""
        theirs = cast(Counted, other)
        self._require_same(theirs)
        ours, now = self.arrays(), theirs.arrays()
        same = ours.keys() == now.keys() and all(np.array_equal(ours[k], now[k]) for k in ours)
        return 0 if same else len(self.files)

    def write(self, path: Path) -> None:
        """Write atomically."""
        write_arrays(path, self.arrays())

    # Resampling a whole COCO takes most of a minute, and a report asks for each metric of each pair.
    @functools.cached_property
    def _draws(self) -> dict[str, NDArray[np.float64]]:
        return draws(self)

    def _require_same(self, theirs: "Counted") -> None:
        if apart := sorted(set(self.files) ^ set(theirs.files)):
            raise InputError(
                f"{counted(len(apart), 'file')} {plural(len(apart), 'is', 'are')} "
                f"not in both, such as {apart[0]}"
            )


def measured(statistics: Counted) -> dict[str, float]:
    """Each metric, in percent, of the images as they are."""
    values = statistics.resampled(np.ones((1, len(statistics.files)), dtype=np.int32))
    return {metric: float(value_R[0]) for metric, value_R in values.items()}


def check_agreement(statistics: Counted, stated: dict[str, float]) -> None:
    """Check that metrics, rounded as their library rounds, are made of these statistics.

    Raises:
        InputError: one is not, or cannot be made of them.
    """
    values = measured(statistics)
    for metric, value in stated.items():
        ours = values.get(metric, math.nan)
        same = abs(value - ours) <= statistics.tolerance
        if not same and not (math.isnan(value) and metric in values and math.isnan(ours)):
            raise InputError(
                f"{metric} is {value:.4f}, but what was kept of each image gives {ours:.4f}; by "
                f"rounding they may differ by {statistics.tolerance:.4f}"
            )


def draws(
    statistics: Counted, *, seed: int = _SEED, rounds: int = 2000
) -> dict[str, NDArray[np.float64]]:
    """Each metric of `rounds` resamples of the images; nan where a resample measures nothing."""
    names = np.argsort(np.array(statistics.files), kind="stable")
    place_N = np.empty_like(names)
    place_N[names] = np.arange(len(names))
    chunks = [
        statistics.resampled(weights_RN[:, place_N])
        for weights_RN in _weights(len(names), seed, rounds)
    ]
    return {metric: np.concatenate([chunk[metric] for chunk in chunks]) for metric in chunks[0]}


def intervals(
    statistics: Counted, *, seed: int = _SEED, rounds: int = 2000
) -> dict[str, tuple[float, float]]:
    """The interval of each metric, at 95 %, in percent; (nan, nan) where nothing is measured.

    The percentiles of `draws` (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section
    13.3). Where the statistics say so, they lie around the estimate corrected for bias (section
    10.6), not around the mean of the draws, which has the bias twice: with x the metric of the
    images as they are and m the mean of the draws, both ends move by 2 (x - m). The interval holds
    x, and stays within 0 and 100.
    """
    points = measured(statistics)
    values = draws(statistics, seed=seed, rounds=rounds)
    return {
        metric: _interval(_numbers(value_R), points[metric], corrected=statistics.corrected)
        for metric, value_R in values.items()
    }


def paired(
    ours: dict[str, NDArray[np.float64]], theirs: dict[str, NDArray[np.float64]]
) -> dict[str, tuple[float, float, float]]:
    """Ours less theirs, of `draws` from the same images: an interval's ends and the p-value."""
    found = {}
    for metric in ours.keys() & theirs.keys():
        values_R = _numbers(ours[metric] - theirs[metric])
        found[metric] = (*percentiles(values_R), p_of_zero(values_R))
    return found


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an `.npz` atomically, without pickle."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_named_arrays(folder: Path, name: str, arrays: Arrays) -> Path:
    """Write an `.npz` that is called `<name>-<beginning of its SHA-256>.npz`; returns its path.

    Two runs that write into one folder cannot replace each other's evidence: another content has
    another name.
    """
    with temporary_file(folder / name) as temporary:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        to_disk(temporary)
        path = folder / f"{name}-{digest_file(temporary)[:_DIGITS]}.npz"
        temporary.replace(path)
    return path


def check_numbers(
    path: Path, arrays: Arrays, name: str, *, length: int, below: int | None = None
) -> None:
    """Check that an array holds `length` whole numbers from 0, `below` a limit.

    Raises:
        InputError: it does not.
    """
    array = arrays[name]
    fits = array.shape == (length,) and array.dtype.kind in "iu"
    if fits and length:
        fits = int(array.min()) >= 0 and (below is None or int(array.max()) < below)
    if not fits:
        limit = "" if below is None else f" below {below}"
        raise InputError(f"{path}: {name} is not {length} whole numbers{limit}")


def names_of(path: Path, arrays: Arrays, name: str) -> tuple[str, ...]:
    """An array of names.

    Raises:
        InputError: it is none, or a name is there twice.
    """
    array = arrays[name]
    if array.ndim != 1 or array.dtype.kind != "U" or len(np.unique(array)) != len(array):
        raise InputError(f"{path}: {name} is not a list of different names")
    return tuple(array.tolist())


def _weights(count: int, seed: int, rounds: int) -> Iterator[NDArray[np.int32]]:
    """How often each of `count` images is drawn, for some resamples at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, rounds, _CHUNK):
        drawn = [
            np.bincount(rng.integers(count, size=count), minlength=count)
            for _ in range(min(_CHUNK, rounds - start))
        ]
        yield np.array(drawn, dtype=np.int32)


def _interval(
    value_R: NDArray[np.float64], point: float, *, corrected: bool
) -> tuple[float, float]:
    low, high = percentiles(value_R)
    if not corrected or not len(value_R):
        return low, high
    moved = 2 * (point - float(value_R.mean()))
    return max(0.0, min(low + moved, point)), min(100.0, max(high + moved, point))


def _numbers(values_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without resamples in which nothing was measured, such as of images without any object."""
    return values_R[~np.isnan(values_R)]
