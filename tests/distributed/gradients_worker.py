"""Run by torchrun: this process's share of one batch; the first process saves loss and gradients.

Arguments: where to save, `ddp` or `fsdp`, then the sizes of micro-batches to try.
"""

import sys
from typing import Any

import torch

from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.model import PretrainingModel, distribute
from micl_bench.engine.pretraining.step import backward
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.parallel import gradient_norm
from micl_bench.runtime.distributed import mean, process_group, rank, world_size

IMAGES = 12


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """The same patches and places everywhere."""
    generator = torch.Generator().manual_seed(1)
    visible_NMP = torch.randint(0, 256, (IMAGES, 9, 48), generator=generator, dtype=torch.uint8)
    keep_NM = torch.rand(IMAGES, 36, generator=generator).argsort(dim=1)[:, :9]
    return visible_NMP, keep_NM.reshape(IMAGES, 3, 3)


def gradients(parallel: str, micro_batch: int, *, checkpoint: bool = False) -> dict[str, Any]:
    """Loss, gradients and their norm of a small ViT in fp64, with global negatives."""
    arch = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
    vit = arch.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    objective = MiCL(MiCL.Config(num_views=3, negatives="global"))
    model = distribute(
        PretrainingModel(objective, vit).double(),
        parallel=parallel,
        compile_blocks=False,
        checkpoint_activations=checkpoint,
    )
    share = IMAGES // world_size()
    own = slice(rank() * share, (rank() + 1) * share)
    visible_NMP, keep_NVK = (tensor[own] for tensor in batch())
    output, _ = backward(model, Visible(visible_NMP, keep_NVK), micro_batch=micro_batch)
    whole = {}
    for name, parameter in vit.named_parameters():
        if (gradient := parameter.grad) is not None:
            whole[name] = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    norm = gradient_norm(model, clip_norm=0.0)
    return {"loss": mean(output.loss), "gradients": whole, "norm": norm}


if __name__ == "__main__":
    path, parallel, *sizes = sys.argv[1:]
    with process_group():
        found = {size: gradients(parallel, int(size)) for size in sizes}
        found["checkpointed"] = gradients(parallel, int(sizes[0]), checkpoint=True)
        if rank() == 0:
            torch.save(found, path)
