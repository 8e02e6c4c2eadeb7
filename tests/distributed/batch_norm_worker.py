"""Run by torchrun: this process's part of some rows through a batch norm; the first process saves all.

Argument: where to save.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from micl_bench.objectives._batch_norm import BatchNorm
from micl_bench.runtime.distributed import collect_rows, process_group, rank, total, world_size

ROWS, WIDTH = 12, 5


def normalised(norm: nn.Module, own: slice) -> dict[str, Tensor]:
    """Two steps of training, one of evaluation, of these rows in fp64; what comes out, and gradients.

    The loss is the mean over processes, whose gradients of the weights are summed as DDP averages them.
    """
    generator = torch.Generator().manual_seed(0)
    of: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    weight_D, targets_ND = torch.randn(WIDTH, **of), torch.randn(ROWS, WIDTH, **of)
    norm.double()
    with torch.no_grad():
        norm.weight.copy_(weight_D)
    parts, gradients = [], []
    for _ in range(2):
        rows_ND = 3 + 2 * torch.randn(ROWS, WIDTH, **of)
        rows = rows_ND[own].requires_grad_()
        out = norm(rows)
        # No sum of squares alone, which normalised rows have in common.
        loss = (out - targets_ND[own]).pow(2).mean() + (out * out * targets_ND[own]).mean()
        loss.backward()
        # DDP's mean of gradients is what a row's share of the mean of losses adds up to.
        parts.append(out.detach())
        gradients.append(rows.grad / world_size())
    norm.eval()
    parts.append(norm(rows.detach()))
    found = {"rows": torch.cat(parts, dim=1), "gradients": torch.cat(gradients, dim=1)}
    found = {name: collect_rows(value.detach()) for name, value in found.items()}
    found["weight"] = total(norm.weight.grad) / world_size()
    if norm.bias is not None:
        found["bias"] = total(norm.bias.grad) / world_size()
    # By the order in which both kinds of module have them.
    running = [value for value in norm.buffers() if value.ndim]
    return found | {"mean": running[0], "variance": running[1]}


if __name__ == "__main__":
    (path,) = sys.argv[1:]
    with process_group():
        share = ROWS // world_size()
        found = normalised(BatchNorm(WIDTH), slice(rank() * share, (rank() + 1) * share))
        if rank() == 0:
            torch.save(found, path)
