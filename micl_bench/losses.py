"""The MiCL loss: T-distributed spherical similarity and its symmetric cross-entropy (METHOD, 3, 4).

Shapes: N images, V views, D feature width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from micl_bench.errors import InputError


def tsp_similarity(cosine: Tensor, kappa: float = 1 / 64) -> Tensor:
    """T-SP similarity `0.5 * (1 + c) / (1 + (1 - c) * kappa)`, elementwise; 0 at c = -1, 1 at c = 1.

    Raises:
        InputError: kappa is negative.
    """
    if kappa < 0:
        raise InputError(f"kappa is {kappa}; it must be 0 (a rescaled cosine) or more")
    return 0.5 * (1.0 + cosine) / (1.0 + (1.0 - cosine) * kappa)


def micl_loss(features_NVD: Tensor, *, kappa: float = 1 / 64, temperature: float = 0.07) -> Tensor:
    """Mean cross-entropy over all ordered pairs of views; the target is the same image.

    For views a and b the logits are `tsp_similarity(cos(f_a[i], f_b[j])) / temperature`, N x N.
    With V = 2 the mean over (a, b) and (b, a) is the published loss; V > 2 is our extension.
    Features are normalised here. Everything runs in fp32 (fp64 stays fp64) whatever the autocast:
    a cosine near 1 has too few bits below that.

    Raises:
        InputError: not three dimensions, fewer than two views, or a temperature of 0 or less.
    """
    if features_NVD.ndim != 3 or features_NVD.shape[1] < 2:
        raise InputError(
            f"features have shape {tuple(features_NVD.shape)}; (images, views >= 2, width) is needed"
        )
    if temperature <= 0:
        raise InputError(f"temperature is {temperature}; it must be above 0")
    N, V, _ = features_NVD.shape
    with torch.autocast(features_NVD.device.type, enabled=False):
        wide = torch.promote_types(features_NVD.dtype, torch.float32)
        unit_VND = F.normalize(features_NVD.to(wide), dim=-1).transpose(0, 1)
        target_N = torch.arange(N, device=features_NVD.device)
        total = unit_VND.new_zeros(())
        for a in range(V):
            for b in range(a + 1, V):
                logits_NN = tsp_similarity(unit_VND[a] @ unit_VND[b].T, kappa) / temperature
                # The logits of (b, a) are the transpose of those of (a, b).
                total = total + F.cross_entropy(logits_NN, target_N)
                total = total + F.cross_entropy(logits_NN.T, target_N)
        return total / (V * (V - 1))
