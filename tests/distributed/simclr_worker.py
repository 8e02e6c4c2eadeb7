"""Run by torchrun: this process's share of a batch of SimCLR; the first saves loss and gradients.

Arguments: where to save, `ddp` or `fsdp`.
"""

import sys
from typing import Any

import numpy as np
import torch

from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.model import PretrainingModel, distribute
from micl_bench.engine.pretraining.step import backward
from micl_bench.objectives.simclr import SimCLR
from micl_bench.runtime.distributed import mean, process_group, rank, world_size

IMAGES, SEED = 12, 5
ARCH = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)


def gradients(parallel: str) -> dict[str, Any]:
    """Loss and gradients of a small ViT, its crops drawn and changed as in training."""
    objective, vit = SimCLR(SimCLR.Config(width=16, crop_scale=(0.3, 1.0))), ARCH.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    model = distribute(
        PretrainingModel(objective, vit, seed=SEED).double(),
        parallel=parallel,
        compile_blocks=False,
        checkpoint_activations=False,
    )
    share = IMAGES // world_size()
    own = slice(rank() * share, (rank() + 1) * share)
    generator = torch.Generator().manual_seed(1)
    shape = (IMAGES, 3, 24, 24)
    images_NCHW = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    # All crops at once on each process: cut in parts, windows differ, and rounding with them.
    seen = objective.wants(ARCH).of_images(images_NCHW, np.arange(IMAGES), seed=SEED)
    batch = Visible(seen.visible_NMP[own], seen.keep_NVK[own])
    output, _ = backward(model, batch)
    whole = {}
    for name, parameter in model.named_parameters():
        if (gradient := parameter.grad) is not None:
            full = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            whole[name.removeprefix("module.")] = full
    return {"loss": mean(output.loss), "gradients": whole}


if __name__ == "__main__":
    path, parallel = sys.argv[1:]
    with process_group():
        found = gradients(parallel)
        if rank() == 0:
            torch.save(found, path)
