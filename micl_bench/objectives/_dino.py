"""DINO's head and loss (Caron et al. 2021, arXiv:2104.14294; github.com/facebookresearch/dino).

Shapes: N images, G global crops, C crops of the student, the global ones first, D width, B the
bottleneck's width, O outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micl_bench.backbone import full_precision


def dino_targets(teacher_NGO: Tensor, centre_1O: Tensor, *, temperature: Tensor) -> Tensor:
    """The teacher's distributions, softmax((T - c) / t), in fp32 (fp64 stays fp64) whatever the
    autocast."""
    with full_precision(teacher_NGO.device):
        wide = torch.promote_types(teacher_NGO.dtype, torch.float32)
        return F.softmax((teacher_NGO.to(wide) - centre_1O) / temperature, dim=-1)


def dino_errors(student_NCO: Tensor, target_NGO: Tensor, *, temperature: float) -> Tensor:
    """The mean of each image, error_N, over pairs of a teacher's crop g and another one c of the
    student's, of the cross-entropy -sum_o target_go * log softmax(S_c / t)_o, in fp32 (fp64 stays fp64)
    whatever the autocast."""
    with full_precision(student_NCO.device):
        wide = torch.promote_types(student_NCO.dtype, torch.float32)
        log_NCO = F.log_softmax(student_NCO.to(wide) / temperature, dim=-1)
        cross_NGC = -(target_NGO @ log_NCO.mT)
        G, C = cross_NGC.shape[1:]
        same_GC = torch.eye(G, C, dtype=torch.bool, device=cross_NGC.device)
        return cross_NGC.masked_fill(same_GC, 0).sum((1, 2)) / (G * C - G)


class Head(nn.Module):
    """Three linear layers with GELU between them, whose output gets length 1, and the `last_layer`."""

    def __init__(
        self, width: int, *, hidden: int, bottleneck: int, outputs: int, learnt_lengths: bool
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Directions(bottleneck, outputs, learnt_lengths=learnt_lengths)

    def forward(self, features: Tensor) -> Tensor:
        """Return what the last layer gets, (..., B) of length 1, of features (..., D)."""
        narrow = self.mlp(features)
        with full_precision(narrow.device):
            wide = torch.promote_types(narrow.dtype, torch.float32)
            return F.normalize(narrow.to(wide), dim=-1)


class Directions(nn.Module):
    """A linear layer without bias whose weights are `weight_v` at the lengths `weight_g`, 1 at first:
    torch's `weight_norm` of `nn.Linear`, with its start and its names."""

    def __init__(self, inputs: int, outputs: int, *, learnt_lengths: bool) -> None:
        super().__init__()
        lengths_O1 = torch.ones(outputs, 1)
        self.weight_g = nn.Parameter(lengths_O1, requires_grad=learnt_lengths)
        self.weight_v = nn.Parameter(nn.Linear(inputs, outputs, bias=False).weight.detach())

    def forward(self, unit: Tensor, learns: Tensor | None = None) -> Tensor:
        """Return outputs (..., O) of (..., B).

        Args:
            learns: a factor of the weights' gradients, 0 or 1; None for 1.
        """
        return F.linear(unit, self.weights(learns))

    def weights(self, learns: Tensor | None = None) -> Tensor:
        """Return the weights as a matrix, whole where the parameters are sharded."""
        g_O1, v_OB = (_whole(one) for one in (self.weight_g, self.weight_v))
        if learns is not None:
            # From equal ends: the value stays, bit for bit.
            g_O1, v_OB = (one.detach().lerp(one, learns) for one in (g_O1, v_OB))
        return g_O1 * F.normalize(v_OB, dim=-1)


def _whole(parameter: Tensor) -> Tensor:
    whole: Tensor = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
    return whole
