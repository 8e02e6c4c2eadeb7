"""The health of a representation, measured without labels but for k-NN.

Shapes: N images, V views, D feature width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Pairs at a time: 256 MiB of fp32 distances.
_CHUNK_ELEMENTS = 1 << 26


def alignment(features_NVD: Tensor) -> Tensor:
    """Mean squared distance between unit features of views of one image (Wang and Isola 2020, with
    exponent 2); 0 is perfect, 2 is unrelated."""
    unit_NVD = F.normalize(features_NVD, dim=-1)
    V = unit_NVD.shape[1]
    # |a - b|^2 = 2 - 2 a.b; all ordered pairs of views from the sum over views.
    cosine_N = unit_NVD.sum(1).square().sum(-1).sub(V) / (V * (V - 1))
    return (2 - 2 * cosine_N).mean()


def uniformity(features_ND: Tensor) -> Tensor:
    """log of the mean over pairs of images of exp(-2 |x - y|^2) of unit features (Wang and Isola
    2020, t = 2); 0 when all are equal, towards -4 when they fill the sphere."""
    unit_ND = F.normalize(features_ND, dim=-1)
    N = len(unit_ND)
    total = unit_ND.new_zeros((), dtype=torch.float64)
    for part_nD in unit_ND.split(max(1, _CHUNK_ELEMENTS // N)):
        squared_nN = 2 - 2 * (part_nD @ unit_ND.T)
        total += torch.exp(-2 * squared_nN.clamp_min(0)).sum(dtype=torch.float64)
    # Each image with itself counts exp(0) = 1.
    return torch.log((total - N) / (N * (N - 1)))


def rankme(features_ND: Tensor) -> Tensor:
    """Effective rank: exp of the entropy of the normalised singular values (Garrido et al. 2023);
    from 1, a collapse to one direction, to min(N, D)."""
    singular = torch.linalg.svdvals(features_ND.double())
    share = singular / singular.sum() + 1e-7
    return torch.exp(-(share * share.log()).sum())


class CollapseWatch:
    """Warns, once, when a model cannot tell images apart for a whole epoch.

    At chance the loss is log(N). A loss within 1 % of it, and views of one image no closer than views
    of different ones by 0.02, say next to nothing about the image. That is how training starts, too:
    so it counts only after the warm-up, and only for an epoch without a break.
    """

    def __init__(self, *, num_images: int, warmup_steps: int, steps_per_epoch: int) -> None:
        self._chance, self._num_images = math.log(num_images), num_images
        self._warmup_steps, self._patience = warmup_steps, steps_per_epoch
        self._in_a_row = 0

    def __call__(self, *, step: int, loss: float, positive: float, negative: float) -> str:
        """The warning at the step that completes the epoch; else nothing.

        Args:
            positive: mean cosine between views of one image.
            negative: between views of different images.
        """
        alike = loss > 0.99 * self._chance and positive - negative < 0.02
        self._in_a_row = self._in_a_row + 1 if alike and step > self._warmup_steps else 0
        if self._in_a_row != self._patience:
            return ""
        return (
            f"collapse: for an epoch the loss has been at chance, {loss:.3f} of log("
            f"{self._num_images}) = {self._chance:.3f}, and views of one image are hardly closer "
            f"(mean cosine {positive:.3f}) than views of different images ({negative:.3f}); a lower "
            "optim.base_lr or a longer warm-up may help"
        )
