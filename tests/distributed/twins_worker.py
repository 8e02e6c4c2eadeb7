"""Run by torchrun: this process's share of steps with a momentum twin; the first one saves the state.

Arguments: where to save, the objective, `ddp` or `fsdp`, then the sizes of micro-batches to try.
"""

import dataclasses
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.to_device import each_tensor
from micl_bench.data.visible import Seen, Visible
from micl_bench.engine.pretraining.model import PretrainingModel, distribute
from micl_bench.engine.pretraining.step import Step, backward
from micl_bench.objectives import Objective
from micl_bench.objectives.dino import DINO
from micl_bench.objectives.extrema import ExtreMA
from micl_bench.objectives.ijepa import IJepa
from micl_bench.patches import gather_patches
from micl_bench.runs.optim import OptimConfig, build_optimizer
from micl_bench.runs.parallel import whole_state
from micl_bench.runtime.distributed import mean, process_group, rank, world_size

IMAGES, STEPS = 8, 3
ARCH = Arch(name="test", img_size=32, patch_size=4, width=32, depth=2, num_heads=2)


def objective_of(name: str) -> Objective:
    """A small one, whose twin follows fast."""
    small: dict[str, Objective] = {
        "dino": DINO(
            DINO.Config(
                momentum=0.5,
                frozen_share=0.5,
                drop_path=0.3,
                local_crops=3,
                local_size=12,
                outputs=20,
                hidden_width=16,
                bottleneck_width=8,
                temperature_share=1.0,
                teacher_temperature=0.07,
            )
        ),
        "extrema": ExtreMA(
            ExtreMA.Config(momentum=0.5, drop_path=0.3, hidden_width=16, output_width=8)
        ),
        "ijepa": IJepa(IJepa.Config(momentum=0.5, predictor_depth=2, predictor_width=16)),
    }
    return small[name]


def arch_of(objective: Objective) -> Arch:
    """The architecture, with [CLS] where the method needs it."""
    return dataclasses.replace(ARCH, class_token=objective.class_token)


def share_of(objective: Objective, step: int) -> Visible:
    """This process's part of a step's batch."""
    generator = torch.Generator().manual_seed(step)
    images_NCHW = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=generator, dtype=torch.uint8)
    share = IMAGES // world_size()
    own = slice(rank() * share, (rank() + 1) * share)
    wants = objective.wants(arch_of(objective))
    if wants.crops:
        # All crops at once on each process: cut in parts, windows differ, and rounding with them.
        seen = wants.of_images(images_NCHW, np.arange(IMAGES), seed=step)
        mine: Seen = each_tensor(seen, lambda one: one[own])
        local = mine.local and Visible(mine.local.visible_NMP, mine.local.keep_NVK)
        return Visible(mine.visible_NMP, mine.keep_NVK, mine.drawn, local)
    keep_NVK, drawn = wants.drawn(1, step, np.arange(IMAGES), own)
    return Visible(gather_patches(images_NCHW[own], keep_NVK, 4), keep_NVK, drawn)


def made(name: str, parallel: str) -> tuple[PretrainingModel, nn.Module, torch.optim.Optimizer]:
    """The model of an objective in fp64, the same wrapped, and its optimiser."""
    objective = objective_of(name)
    vit = arch_of(objective).build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    model = PretrainingModel(objective, vit.train(), seed=1).double()
    wrapped = distribute(
        model, parallel=parallel, compile_blocks=False, checkpoint_activations=False
    )
    return model, wrapped, build_optimizer(vit, OptimConfig(base_lr=1e-3), model.added)


def trained(name: str, parallel: str, micro_batch: int) -> dict[str, Any]:
    """Loss and gradients of the first step, and all weights after some steps."""
    model, wrapped, optimizer = made(name, parallel)
    output, _ = backward(wrapped, share_of(model.objective, 0), micro_batch=micro_batch)
    gradients = {}
    for key, parameter in model.named_parameters():
        if (gradient := parameter.grad) is not None:
            gradients[key] = (
                gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient.clone()
            )
    step = Step(wrapped, optimizer, micro_batch=micro_batch)
    for number in range(STEPS):
        step(share_of(model.objective, number), 1e-3, (number + 1) / STEPS)
    weights = whole_state(wrapped, optimizer)["model"]
    return {"loss": mean(output.loss), "gradients": gradients, "weights": weights}


if __name__ == "__main__":
    path, name, parallel, *sizes = sys.argv[1:]
    with process_group():
        found = {size: trained(name, parallel, int(size)) for size in sizes}
        if rank() == 0:
            torch.save(found, path)
