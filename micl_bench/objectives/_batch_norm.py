"""Batch normalisation of a head's rows over the images of all processes, on any device.

Shapes: n rows of this process, D width.
"""

import torch
from torch import Tensor, nn

from micl_bench.runtime.distributed import total, world_size

_EPS, _MOMENTUM = 1e-5, 0.1


class BatchNorm(nn.Module):
    """`nn.BatchNorm1d` of the whole batch, with its gradient, for any number of processes of equally
    many rows (`nn.SyncBatchNorm` needs GPUs). Statistics and result are in fp32 or wider.

    Parts of a process's rows would each have other statistics: an objective that has one of these
    declares `couples_images`.

    Args:
        scale: learn a factor of each column.
        bias: learn a shift of each column.
    """

    def __init__(self, width: int, *, scale: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if scale else None
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.mean_D: Tensor
        self.variance_D: Tensor
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("variance_D", torch.ones(width))

    def forward(self, rows_nD: Tensor) -> Tensor:
        """Return the normalised rows; in training by their own statistics, which the running ones, those
        of evaluation, follow."""
        rows_nD = rows_nD.to(torch.promote_types(rows_nD.dtype, torch.float32))
        if not self.training:
            return self._scaled(rows_nD - self.mean_D, self.variance_D)
        number = len(rows_nD) * world_size()
        mean_D = total(rows_nD.sum(0)) / number
        # In two passes: a difference of large squares would lose digits.
        centred_nD = rows_nD - mean_D
        variance_D = total(centred_nD.square().sum(0)) / number
        with torch.no_grad():
            self.mean_D.lerp_(mean_D, _MOMENTUM)
            self.variance_D.lerp_(variance_D * (number / max(1, number - 1)), _MOMENTUM)
        return self._scaled(centred_nD, variance_D)

    def _scaled(self, centred_nD: Tensor, variance_D: Tensor) -> Tensor:
        scaled_nD = centred_nD * (variance_D + _EPS).rsqrt()
        if self.weight is not None:
            scaled_nD = scaled_nD * self.weight
        return scaled_nD if self.bias is None else scaled_nD + self.bias
