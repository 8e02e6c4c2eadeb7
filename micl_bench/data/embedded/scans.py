"""The handwritten digits: 1797 scans of 8x8 pixels with 17 grey levels, split into three groups.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998; the copy inside scikit-learn (`load_digits`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

GROUPS = ("train", "val", "reserve")
# Of each class. The shifted sets share the reserve; it is not smaller than val, so that there are
# enough scans for the hardest of them to be hard.
_SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True, kw_only=True)
class Scans:
    """All scans and the group of each; a scan is named by its index in scikit-learn's order."""

    inks: NDArray[np.float32]
    """(N, 8, 8); 0 is paper, 1 is full ink."""
    digits: NDArray[np.int64]
    members: dict[str, NDArray[np.int64]]
    """Group name to the ascending indices of its scans."""

    def counts(self) -> dict[str, int]:
        """Number of scans in each group."""
        return {group: len(indices) for group, indices in self.members.items()}


def random_stream(seed: int, purpose: str) -> np.random.Generator:
    """Independent random numbers for each purpose, so that a change to one part moves no other."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *purpose.encode()])))


def load_scans(seed: int) -> Scans:
    """Load the scans and split each class at random."""
    bunch = load_digits()
    digit_N = bunch.target.astype(np.int64)
    random = random_stream(seed, "split")
    pieces: dict[str, list[NDArray[np.int64]]] = {group: [] for group in GROUPS}
    for digit in range(10):
        shuffled = random.permutation(np.flatnonzero(digit_N == digit))
        ends = np.rint(np.cumsum(_SHARES)[:-1] * len(shuffled)).astype(int)
        for group, part in zip(GROUPS, np.split(shuffled, ends), strict=True):
            pieces[group].append(part)
    members = {group: np.sort(np.concatenate(parts)) for group, parts in pieces.items()}
    return Scans(inks=(bunch.images / 16).astype(np.float32), digits=digit_N, members=members)
