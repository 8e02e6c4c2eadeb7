"""The health of a representation, measured without labels.

Shapes: N images, D feature width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Pairs at a time: 256 MiB of fp32 distances.
_CHUNK_ELEMENTS = 1 << 26


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
