"""Run by torchrun: a share of one batch of an objective; the first process saves the result.

Arguments: where to save, the objective's name among CASES, `ddp` or `fsdp`, then sizes of micro-batches.
"""

import sys
from typing import Any

import numpy as np
import torch

from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.model import PretrainingModel, distribute
from micl_bench.engine.pretraining.step import backward
from micl_bench.objectives import ObjectiveConfig
from micl_bench.objectives.droppos import DropPos
from micl_bench.objectives.mae import MAE
from micl_bench.objectives.simmim import SimMIM
from micl_bench.patches import gather_patches
from micl_bench.runs.parallel import gradient_norm
from micl_bench.runtime.distributed import mean, process_group, rank, world_size

IMAGES, SEED = 12, 5
ARCH = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
CASES: dict[str, ObjectiveConfig] = {
    "droppos": DropPos.Config(mask_ratio=0.5, decoder_width=24, decoder_heads=3, sigma=1.5),
    "mae": MAE.Config(decoder_depth=1, decoder_width=32),
    "simmim": SimMIM.Config(drop_path=0.3),
}


def gradients(name: str, parallel: str, micro_batch: int) -> dict[str, Any]:
    """Loss, numbers, gradients and their norm of a small ViT in fp64, over the whole batch."""
    objective, vit = CASES[name].build(), ARCH.build()
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
    images_NCHW = torch.randint(0, 256, (IMAGES, 3, 24, 24), generator=generator)
    wants = objective.wants(ARCH)
    keep_NVK, drawn = wants.drawn(SEED, 0, np.arange(IMAGES), own)
    visible_NMP = gather_patches(images_NCHW[own].to(torch.uint8), keep_NVK, ARCH.patch_size)
    output, _ = backward(model, Visible(visible_NMP, keep_NVK, drawn), micro_batch=micro_batch)
    whole = {}
    for parameter_name, parameter in model.named_parameters():
        if (gradient := parameter.grad) is not None:
            full = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            whole[parameter_name.removeprefix("module.")] = full
    numbers = {key: mean(value) for key, value in output.numbers.items()}
    norm = gradient_norm(model, clip_norm=0.0)
    return {"loss": mean(output.loss), "gradients": whole, "norm": norm, "numbers": numbers}


if __name__ == "__main__":
    path, name, parallel, *sizes = sys.argv[1:]
    with process_group():
        found = {size: gradients(name, parallel, int(size)) for size in sizes}
        if rank() == 0:
            torch.save(found, path)
