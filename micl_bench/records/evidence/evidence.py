"""What a number rests on, image by image: metrics are made of it, and paired with another's."""

import dataclasses
from typing import Protocol

from numpy.typing import NDArray

from micl_bench.runtime.npz import Arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paired:
    """Two models on the same images: a metric of the first less that of the second, tested."""

    interval: tuple[float, float]
    """Both ends at 95 %, in the metric's unit."""
    p: float
    test: str
    """`McNemar` or `bootstrap`."""
    only_first: int | None = None
    """Images that the first alone gets right, where each is right or wrong; `only_second` likewise."""
    only_second: int | None = None


class Evidence(Protocol):
    """What is kept of each image; a record names its kind, and `read_evidence` reads it."""

    @property
    def kind(self) -> str:
        """What a record calls it."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the N images, each once."""

    def metrics(self) -> dict[str, float]:
        """Each metric that can be made of it, in the metric's unit; NaN where no image counts."""

    def intervals(self, *, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Both ends at 95 % of each metric."""

    def reasons(self) -> dict[str, str]:
        """Why a metric is NaN, of those that are."""

    def check(self, stated: dict[str, float]) -> None:
        """Check that metrics, rounded as their library rounds, are made of this.

        Raises:
            InputError: one is not.
        """

    def column(self, metric: str) -> NDArray | None:
        """What a metric is made of: equal for two names of one metric; None where it cannot be."""

    def paired(self, other: "Evidence", metric: str) -> Paired:
        """This less another of the same kind and images.

        Raises:
            InputError: other images, or the metric cannot be made of both.
        """

    def changed(self, other: "Evidence") -> int:
        """How many images are not the same in another of the same kind and images.

        Raises:
            InputError: other images.
        """

    def arrays(self) -> Arrays:
        """What is written of it, without pickle."""
