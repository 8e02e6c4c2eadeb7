"""Pre-training as it is measured: batches of photographs in a packed store, and an objective's step."""

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from timm.models import VisionTransformer

from micl_bench.backbone import Arch, init_mae_
from micl_bench.bench.loader import write_photographs
from micl_bench.data.packed.pack import pack_folder
from micl_bench.data.packed.store import Store
from micl_bench.data.pixels import Pixels
from micl_bench.data.to_device import device_batches
from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.model import PretrainingModel, distribute
from micl_bench.engine.pretraining.step import Step
from micl_bench.objectives import Objective
from micl_bench.runs.meter import settle
from micl_bench.runs.optim import OptimConfig, build_optimizer

SEED, RATE = 0, 1e-4
_HALF_WAY = 0.5
"""Share of a run that is done, for an objective's schedules."""


def photograph_store(folder: Path, arch: Arch, *, layout: str, number: int) -> Store:
    """Pack photographs below a folder, as `<folder>/<layout>`: in the patch layout as the architecture's
    input, in the image layout as large as crops for it are cut from."""
    photographs = folder / "photographs"
    if not photographs.exists():
        write_photographs(photographs, number)
    form: dict[str, Any] = {"size": arch.img_size, "patch_size": arch.patch_size}
    if layout == "image":
        form = {"size": round(arch.img_size / Pixels.crop_pct)}
    return pack_folder(photographs, folder / layout, layout=layout, **form).store


def training_batches(
    objective: Objective, arch: Arch, store: Store, *, batch: int, device: torch.device
) -> Generator[Visible, None, None]:
    """Endless batches as training reads them, made ahead by a thread.

    Raises:
        InputError: the objective cannot take a store of this layout, or this architecture.
    """
    wants, pixels = objective.wants(arch), Pixels(img_size=arch.img_size)
    wants.require(store, pixels)
    endless = wants.batches(store, pixels, batch_size=batch, seed=SEED, steps=range(1 << 62))
    return device_batches(endless, device)


def initial_vit(arch: Arch, device: torch.device) -> VisionTransformer:
    """The backbone as training starts with it."""
    vit = arch.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(SEED))
    return vit.train().to(device)


def training_step(
    objective: Objective,
    arch: Arch,
    device: torch.device,
    *,
    precision: str,
    compile_blocks: bool,
    micro_batch: int = 0,
) -> Callable[[Visible], object]:
    """The step that `micl-bench pretrain` takes, on a model of its own."""
    vit = initial_vit(arch, device)
    model = PretrainingModel(objective, vit, precision=precision).to(device)
    trained = distribute(
        model, parallel="ddp", compile_blocks=compile_blocks, checkpoint_activations=False
    )
    optimizer = build_optimizer(vit, OptimConfig(base_lr=RATE), model.added)
    step = Step(trained, optimizer, micro_batch=micro_batch)
    return lambda batch: step(batch, RATE, _HALF_WAY)


def images_per_second(
    take: Callable[[], object], *, steps: int, batch: int, device: torch.device
) -> float:
    """The speed of some steps, by the clock."""
    settle(device)
    start = time.perf_counter()
    for _ in range(steps):
        take()
    settle(device)
    return steps * batch / (time.perf_counter() - start)
