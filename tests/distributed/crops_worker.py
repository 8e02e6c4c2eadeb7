"""Run by torchrun: this process's share of steps of methods that see crops; the first saves the results.

Arguments: where to save, `ddp` or `fsdp`.
"""

import sys
from typing import Any

import numpy as np
import torch

from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.model import PretrainingModel, distribute
from micl_bench.engine.pretraining.step import Step, backward
from micl_bench.objectives import ObjectiveConfig
from micl_bench.objectives.moco_v3 import MoCoV3
from micl_bench.objectives.simclr import SimCLR
from micl_bench.runs.optim import OptimConfig, build_optimizer
from micl_bench.runs.parallel import whole_state
from micl_bench.runtime.distributed import mean, process_group, rank, world_size

IMAGES, SEED, STEPS = 12, 5, 2
ARCH = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
CASES: dict[str, ObjectiveConfig] = {
    "simclr": SimCLR.Config(width=16, crop_scale=(0.3, 1.0)),
    # A momentum encoder that follows fast.
    "moco_v3": MoCoV3.Config(width=16, hidden_width=24, crop_scale=(0.3, 1.0), momentum=0.5),
}


def trained(name: str, parallel: str) -> dict[str, Any]:
    """Loss, numbers and gradients of a small ViT, its crops drawn and changed as in training; then its
    weights and running statistics after some steps."""
    objective, vit = CASES[name].build(), ARCH.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    model = PretrainingModel(objective, vit, seed=SEED).double()
    wrapped = distribute(
        model, parallel=parallel, compile_blocks=False, checkpoint_activations=False
    )
    share = IMAGES // world_size()
    own = slice(rank() * share, (rank() + 1) * share)
    generator = torch.Generator().manual_seed(1)
    shape = (IMAGES, 3, 24, 24)
    images_NCHW = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    # All crops at once on each process: cut in parts, windows differ, and rounding with them.
    seen = objective.wants(ARCH).of_images(images_NCHW, np.arange(IMAGES), seed=SEED)
    batch = Visible(seen.visible_NMP[own], seen.keep_NVK[own])
    output, _ = backward(wrapped, batch)
    gradients = {}
    for key, parameter in model.named_parameters():
        if (gradient := parameter.grad) is not None:
            whole = hasattr(gradient, "full_tensor")
            gradients[key] = gradient.full_tensor() if whole else gradient.clone()
    numbers = {key: mean(value) for key, value in output.numbers.items()}
    optimizer = build_optimizer(vit, OptimConfig(base_lr=1e-3), model.added)
    step = Step(wrapped, optimizer)
    for number in range(STEPS):
        step(batch, 1e-3, (number + 1) / STEPS)
    weights = whole_state(wrapped, optimizer)["model"]
    found = {"loss": mean(output.loss), "numbers": numbers, "gradients": gradients}
    return found | {"weights": weights}


if __name__ == "__main__":
    path, parallel = sys.argv[1:]
    with process_group():
        found = {name: trained(name, parallel) for name in CASES}
        if rank() == 0:
            torch.save(found, path)
