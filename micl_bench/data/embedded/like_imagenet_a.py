"""Natural scans that fool a simple classifier, as ImageNet-A holds photographs that fool a ResNet.

D. Hendrycks et al., Natural Adversarial Examples, CVPR 2021, https://arxiv.org/abs/1907.07174:
the pictures are unmodified, chosen because a fixed classifier fails on them, and cover a subset of
the classes. Here the classifier is logistic regression on the 8x8 pixels of the train scans.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from micl_bench.data.embedded.clean import draw_clean
from micl_bench.data.embedded.ink import write_picture
from micl_bench.data.embedded.scans import Scans

_NUM_CLASSES = 6
_NUM_IMAGES = 80
# In logits: beyond it a scan is safely right, and being righter says nothing on the class.
_SAFE_MARGIN = 2.0


def write(folder: Path, scans: Scans) -> dict[str, int]:
    """Write the hardest reserve scans of the most confused classes."""
    chosen = choose_hard(scans)
    for scan in chosen.tolist():
        picture = draw_clean(scans.inks[scan])
        write_picture(folder, picture, digit=int(scans.digits[scan]), scan=scan)
    return {"test": len(chosen)}


def choose_hard(scans: Scans) -> NDArray[np.int64]:
    """Ascending indices of the chosen scans, all from the reserve."""
    reserve = scans.members["reserve"]
    digit_N, margin_N = scans.digits[reserve], _margins(scans, reserve)
    safety = [np.minimum(margin_N[digit_N == digit], _SAFE_MARGIN).mean() for digit in range(10)]
    confused = np.argsort(safety, kind="stable")[:_NUM_CLASSES]
    candidates = np.flatnonzero(np.isin(digit_N, confused))
    hardest = candidates[np.argsort(margin_N[candidates], kind="stable")[:_NUM_IMAGES]]
    return np.sort(reserve[hardest])


def _margins(scans: Scans, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logit of the true class minus the best other one; negative where the classifier is wrong."""
    pixels_ND = scans.inks.reshape(len(scans.inks), -1).astype(np.float64)
    train = scans.members["train"]
    # One thread adds in one order, and is faster than many on matrices this small.
    with threadpool_limits(1):
        classifier = LogisticRegression(max_iter=1000).fit(pixels_ND[train], scans.digits[train])
    logits_NC = classifier.decision_function(pixels_ND[indices])
    rows, truth_N = np.arange(len(indices)), scans.digits[indices]
    true_N = logits_NC[rows, truth_N].copy()
    logits_NC[rows, truth_N] = -np.inf
    # Rounded, so that the last bits of another BLAS do not change the order.
    return np.round(true_N - logits_NC.max(axis=1), 6)
