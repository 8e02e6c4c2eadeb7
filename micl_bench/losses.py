"""The MiCL loss: T-distributed spherical similarity and its symmetric cross-entropy (arXiv:2411.09858).

Shapes: N images, V views, D feature width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from micl_bench.runtime.errors import InputError


def tsp_similarity(cosine: Tensor, kappa: float = 1 / 64) -> Tensor:
    """T-SP similarity `0.5 * (1 + c) / (1 + (1 - c) * kappa)`, elementwise; 0 at c = -1, 1 at c = 1.

    Raises:
        InputError: kappa is below 0.
    """
    if kappa < 0:
        raise InputError(f"kappa is {kappa}; it must be 0 (a rescaled cosine) or more")
    return 0.5 * (1.0 + cosine) / (1.0 + (1.0 - cosine) * kappa)


def micl_loss(features_NVD: Tensor, *, kappa: float = 1 / 64, temperature: float = 0.07) -> Tensor:
    """The mean cross-entropy over all ordered pairs of views, a scalar; the target is the same image.

    For views a and b the logits are `tsp_similarity(cos(f_a[i], f_b[j])) / temperature`, N x N.
    With V = 2 the mean over (a, b) and (b, a) is the published loss; V > 2 is our extension.
    Features are normalised here. Everything runs in fp32 (fp64 stays fp64) whatever the autocast:
    a cosine near 1 has too few bits below that.

    Raises:
        InputError: not three dimensions, fewer than two views, or a temperature of 0 or less.
    """
    return micl_loss_of_rows(
        features_NVD, features_NVD, first=0, kappa=kappa, temperature=temperature
    )


def micl_loss_of_rows(
    features_nVD: Tensor,
    all_NVD: Tensor,
    *,
    first: int,
    kappa: float = 1 / 64,
    temperature: float = 0.07,
) -> Tensor:
    """The part of `micl_loss` of n among the N images: their rows of logits, n x N.

    `micl_loss` of all N is the mean of this over equal parts, which is how processes share it.

    Args:
        features_nVD: rows `first` to `first + n` of `all_NVD`.

    Raises:
        InputError: as `micl_loss`.
    """
    if features_nVD.ndim != 3 or features_nVD.shape[1] < 2:
        raise InputError(
            f"features have shape {tuple(features_nVD.shape)}; (images, views >= 2, width) is needed"
        )
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}; it must be above 0")
    n, V, _ = features_nVD.shape
    with torch.autocast(features_nVD.device.type, enabled=False):
        row_VnD, column_VND = _unit(features_nVD), _unit(all_NVD)
        target_n = torch.arange(first, first + n, device=features_nVD.device)
        total = row_VnD.new_zeros(())
        for a in range(V):
            for b in range(V):
                if a != b:
                    cosine_nN = row_VnD[a] @ column_VND[b].T
                    logits_nN = tsp_similarity(cosine_nN, kappa) / temperature
                    total = total + F.cross_entropy(logits_nN, target_n)
        return total / (V * (V - 1))


def view_cosines(features_NVD: Tensor) -> tuple[Tensor, Tensor]:
    """The mean cosine between views of one image, and between views of different images.

    Both near 1 is a collapse; a trained model has the first well above the second. Costs N * V * D:
    the mean over all pairs of images is the product of the mean vectors. With one image there is no
    different one, and the second is not a number.
    """
    unit_VND = _unit(features_NVD.detach())
    V, N, _ = unit_VND.shape
    summed_ND, summed_VD = unit_VND.sum(0), unit_VND.sum(1)
    # Ordered pairs of views: all products of sums, less each view with itself.
    positive = summed_ND.square().sum() - unit_VND.square().sum()
    everything = summed_VD.sum(0).square().sum() - summed_VD.square().sum()
    pairs = V * (V - 1) * N
    return positive / pairs, (everything - positive) / (pairs * (N - 1))


def alignment(features_NVD: Tensor) -> Tensor:
    """The mean squared distance between unit features of views of one image (Wang and Isola 2020, with
    exponent 2); 0 is perfect, 2 is unrelated."""
    unit_NVD = F.normalize(features_NVD, dim=-1)
    V = unit_NVD.shape[1]
    # |a - b|^2 = 2 - 2 a.b; all ordered pairs of views from the sum over views.
    cosine_N = unit_NVD.sum(1).square().sum(-1).sub(V) / (V * (V - 1))
    return (2 - 2 * cosine_N).mean()


def _unit(features_NVD: Tensor) -> Tensor:
    wide = torch.promote_types(features_NVD.dtype, torch.float32)
    return F.normalize(features_NVD.to(wide), dim=-1).transpose(0, 1)
