"""Speed and memory of one training iteration of a dense recipe, with its images in memory."""

import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from micl_bench.bench.machine import MIB, Peak, in_own_process
from micl_bench.openmmlab.configs import read
from micl_bench.openmmlab.isolation import blaming, quiet
from micl_bench.openmmlab.iteration import build_model, import_library, training_iteration
from micl_bench.openmmlab.memory import estimate
from micl_bench.runs.meter import settle
from micl_bench.runtime.values import Amount, Count, checked


def bench_recipe(
    recipe: Path, device: torch.device, *, overrides: Sequence[str], batch: int, rounds: int
) -> dict[str, Any]:
    """Images/s, peak memory, and the memory that `openmmlab.memory` estimates before.

    Args:
        batch: images of a pass; 0 for the config's own.

    Raises:
        InputError: a config that cannot be read or built, or whose training step fails.
    """
    checked(Amount, batch, "batch")
    checked(Count, rounds, "rounds")
    with quiet(io.StringIO()):
        config = read(recipe, overrides)
    if batch:
        config.train_dataloader.batch_size = batch
    arguments = (recipe, list(overrides), batch, rounds, device)
    on_cpu = device.type == "cpu"
    with blaming(str(recipe), "cannot be measured"):
        with quiet(io.StringIO()):
            expected = estimate(config, build_model(config).to(device).train())
        found = in_own_process(_run, *arguments) if on_cpu else _run(*arguments)
    height, width = found["size"]
    return {
        "name": "iteration",
        "images_per_second": round(found["images"] / statistics.median(found["seconds"]), 4),
        "peak_memory_mib": found["peak_mib"],
        "estimated_memory_mib": round(expected.total / MIB),
        "batch": found["images"],
        "height": height,
        "width": width,
        "optim_wrapper": str(config.optim_wrapper.get("type", "OptimWrapper")),
    }


def _run(
    recipe: Path, overrides: list[str], batch: int, rounds: int, device: torch.device
) -> dict[str, Any]:
    """Seconds of every iteration but the first, which allocates and fills caches, and the peak."""
    with quiet(io.StringIO()):
        config = read(recipe, overrides)
        import_library(config)
        peak = Peak(device)
        iteration = training_iteration(config, device=device, images=batch)
    seconds = []
    for number in range(rounds + 1):
        settle(device)
        start = time.perf_counter()
        iteration.step()
        settle(device)
        if number:
            seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds,
        "peak_mib": peak.mib(),
        "images": iteration.images,
        "size": iteration.size,
    }
