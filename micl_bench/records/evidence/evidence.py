"""Evidence: the results of each image, of which metrics, intervals and paired tests are made."""

import abc
import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_path, digest_file, temporary_file, to_disk
from micl_bench.runtime.npz import Arrays
from micl_bench.runtime.wording import counted, plural

_DIGITS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paired:
    """A paired test of two models on the same images: a metric of the first less the second's."""

    interval: tuple[float, float]
    """Both ends at 95 %, in the metric's unit."""
    p: float
    test: str
    """`McNemar` or `bootstrap`."""
    only_first: int | None = None
    """Number of images that the first alone gets right, where each is right or wrong."""
    only_second: int | None = None


class Evidence(abc.ABC):
    """The results kept of each image; a record names their kind, and `read_evidence` reads them."""

    kind: ClassVar[str]
    """Its name in records."""
    undefined: ClassVar[str] = ""
    """The reason why a metric is NaN, where one is; empty for general words."""
    files: tuple[str, ...]
    """Names of the N images, each once."""

    @property
    @abc.abstractmethod
    def tolerance(self) -> float:
        """Return the largest difference from a record's metric, rounded as its library rounds."""

    @abc.abstractmethod
    def metrics(self) -> dict[str, float]:
        """Return each metric that can be made of it, in the metric's unit; NaN where no image counts."""

    @abc.abstractmethod
    def intervals(self, *, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Return both ends at 95 % of each metric; NaN where it is undefined."""

    @abc.abstractmethod
    def column(self, metric: str) -> NDArray | None:
        """Return the numbers behind a metric, equal for two names of one metric; None without any."""

    @abc.abstractmethod
    def paired(self, other: "Evidence", metric: str) -> Paired:
        """Test this less another one of the same kind and images.

        Raises:
            InputError: the images differ, or the metric cannot be made of both.
        """

    @abc.abstractmethod
    def changed(self, other: "Evidence") -> int:
        """Count the images whose results differ in another one of the same kind and images.

        Raises:
            InputError: the images differ.
        """

    @abc.abstractmethod
    def arrays(self) -> Arrays:
        """Return the arrays that are written of it."""

    def check(self, stated: dict[str, float]) -> None:
        """Check stated metrics against those that are made of this evidence.

        Raises:
            InputError: one differs by more than rounding.
        """
        for metric, found in self.metrics().items():
            value = stated.get(metric, found)
            # Two NaN are equal here.
            if not np.isclose(value, found, rtol=0, atol=self.tolerance, equal_nan=True):
                raise InputError(
                    f"{metric} is {value:.4f}, but the results kept of each image give {found:.4f}; "
                    f"by rounding they may differ by {self.tolerance:.2g}"
                )

    def write(self, path: Path) -> None:
        """Write a file atomically."""
        write_arrays(path, self.arrays())


def order_of_images(ours: Evidence, theirs: Evidence) -> NDArray[np.int64]:
    """Return the rows of `theirs` (N,) in the order of the images of `ours`.

    Raises:
        InputError: they are not the same images.
    """
    if apart := sorted(set(ours.files) ^ set(theirs.files)):
        raise InputError(
            f"{counted(len(apart), 'file')} {plural(len(apart), 'is', 'are')} not in both, such as "
            f"{apart[0]}"
        )
    place = {name: index for index, name in enumerate(theirs.files)}
    return np.array([place[name] for name in ours.files], dtype=np.int64)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an `.npz` atomically, without pickle."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_named_arrays(folder: Path, name: str, arrays: Arrays) -> Path:
    """Write an `.npz` with the name `<name>-<beginning of its SHA-256>.npz`, and return its path.

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


def require(path: Path, arrays: Arrays, names: set[str], what: str) -> None:
    """Raise an InputError for a file that lacks an array."""
    if missing := names - arrays.keys():
        raise InputError(f"{path} holds no {what}: it lacks {', '.join(sorted(missing))}")


def check_numbers(
    path: Path, arrays: Arrays, name: str, *, length: int, below: int | None = None
) -> None:
    """Check that an array holds `length` whole numbers from 0, `below` a limit.

    Raises:
        InputError: the array does not.
    """
    array = arrays[name]
    fits = array.shape == (length,) and array.dtype.kind in "iu"
    if fits and length:
        fits = int(array.min()) >= 0 and (below is None or int(array.max()) < below)
    if not fits:
        limit = "" if below is None else f" below {below}"
        raise InputError(f"{path}: {name} is not {length} whole numbers{limit}")


def names_of(path: Path, arrays: Arrays, name: str, *, once: bool = True) -> tuple[str, ...]:
    """Return an array of names.

    Raises:
        InputError: the array is none, or a name is there twice that may be there `once`.
    """
    array = arrays[name]
    is_list = array.ndim == 1 and (array.dtype.kind == "U" or not array.size)
    if not is_list or (once and len(np.unique(array)) != len(array)):
        raise InputError(f"{path}: {name} is not a list of different names")
    return tuple(array.tolist())
