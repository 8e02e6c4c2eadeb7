"""An estimate of the memory that training a config takes, and a check of it before the start.

Weights, gradients and the optimiser's state are counted exactly; what passes through the model is traced
operation by operation with fake tensors (`live_bytes`). Not counted: libraries, the allocator's losses,
scratch space inside kernels, what the matching of boxes needs, and data-loading processes. On CPU, in
fp32, processes took 0.97 to 1.17 times their estimates (ViT-S in UperNet at 256 and 512 pixels, and in
ViTDet at 512 plain, windowed and recomputed). Only what would be too large even if the estimate were too
high by `MARGIN` is refused.
"""

import dataclasses
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from micl_bench.openmmlab.iteration import build_model
from micl_bench.openmmlab.memory_plan import Estimate, Plan, estimate_plan, plan_of, vits_of
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.memory import free_memory

MARGIN = 0.15
"""By which share an estimate may be too high; where more boxes are drawn than are found, it is."""

_GIB = 1 << 30
_WINDOW = 14
_PRECISIONS = {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def estimate(config: Config, *, device: torch.device, processes: int = 1) -> Estimate:
    """What one of `processes` takes; the config's `batch_size` is a process's.

    Builds the model once on the CPU, its checkpoint included.
    """
    model = build_model(config)
    return estimate_plan(model, plan_of(config, model, device, processes))


def check_memory(
    config: Config, *, device: torch.device, processes: int = 1, free: int | None = None
) -> Estimate | None:
    """Estimate, and refuse what cannot fit; None if anything keeps it from being estimated.

    What was left out, and what may not fit, goes to the log.

    Args:
        config: with the `batch_size` of one process.
        processes: that train together. On CPU those of this machine (`LOCAL_WORLD_SIZE`) share its
            memory.
        free: bytes; None for what is free on the device now.

    Raises:
        InputError: less is free than the estimate without its margin; it names what to lower.
    """
    try:
        model = build_model(config)
        plan = plan_of(config, model, device, processes)
        found = estimate_plan(model, plan)
    except InputError:
        raise
    # A config is a program of the user's: what is wrong with it shows when it is built to run.
    except Exception as error:
        _log(f"memory was not estimated: {' '.join(str(error).split())}")
        return None
    if found.left_out:
        _log(f"memory estimate: {found.left_out}")
    if free is None:
        free = _free(device, processes)
    if free and found.total * (1 - MARGIN) > free:
        raise InputError(_refusal(model, plan, config, found, free))
    if free and found.total > free:
        _log(f"about {_gib(found.total)} are needed and {_gib(free)} are free: this may not fit")
    return found


def _log(message: str) -> None:
    print_log(message, logger="current", level=logging.WARNING)


def _free(device: torch.device, processes: int) -> int:
    """Bytes for one process; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return 0
    return free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", processes))


def _refusal(model: nn.Module, plan: Plan, config: Config, found: Estimate, free: int) -> str:
    height, width = plan.size
    held = found.weights + found.gradients + found.optimiser
    lower = sorted(_lower(model, plan, config, found, free), key=lambda pair: pair[1])
    advice = ", ".join(
        f"{what} (about {_gib(total)})" for what, total in lower if total < found.total
    )
    return (
        f"training needs about {_gib(found.total)} for each process (activations of {plan.images} "
        f"images of {height} x {width} in {_PRECISIONS.get(plan.cast, plan.cast)}: "
        f"{_gib(found.activations)}; weights, gradients, optimiser: {_gib(held)}), and {_gib(free)} "
        f"are free on {plan.device}; lower it by one of: {advice or 'a smaller architecture'}"
    )


def _lower(
    model: nn.Module, plan: Plan, config: Config, found: Estimate, free: int
) -> Iterator[tuple[str, int]]:
    """What could be lowered, each alone, with the total that it gives."""
    for what, changes in _changes(model, plan, config, found, free):
        other = estimate_plan(model, dataclasses.replace(plan, **changes))
        # A batch norm does not train on one value, for instance: that is no advice.
        if other.left_out == found.left_out:
            yield what, other.total


def _changes(
    model: nn.Module, plan: Plan, config: Config, found: Estimate, free: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    for images in _fewer_images(plan, found, free):
        passes = plan.passes * plan.images // images
        what = f"optim_wrapper.accumulative_counts={passes}"
        if (config.get("auto_scale_lr") or {}).get("base_batch_size") is None:
            what = f"train_dataloader.batch_size={images} with {what}"
        yield what, {"images": images, "passes": passes}
    vits = vits_of(model)
    if vits and not vits[0].activation_checkpointing:
        # Slower, and the same result.
        changes: dict[str, Any] = {"vit": (("activation_checkpointing", True),)}
        yield "model.backbone.activation_checkpointing=True", changes
    if plan.cast is None:
        yield "optim_wrapper.type=Bf16OptimWrapper", {"cast": torch.bfloat16}
    if vits and not vits[0].window_size and max(plan.size) > _WINDOW * vits[0].patch_size:
        changes = {"vit": (("window_size", _WINDOW),)}
        yield f"model.backbone.window_size={_WINDOW}, which is another model", changes
    half = (plan.size[0] // 2, plan.size[1] // 2)
    evaluated = plan.evaluated and (plan.evaluated[0], half)
    yield (
        f"images of {half[0]} x {half[1]}, which is another protocol",
        {"size": half, "evaluated": evaluated},
    )


def _fewer_images(plan: Plan, found: Estimate, free: int) -> list[int]:
    """The largest part of the images that fits, or the smallest; beside one image also two or more."""
    parts = [number for number in range(plan.images - 1, 0, -1) if plan.images % number == 0]
    fixed = found.total - found.activations + found.gradients
    fitting = [
        number for number in parts if fixed + found.activations * number / plan.images <= free
    ]
    chosen = (fitting or parts[-1:])[:1]
    # Batch norm does not train on one.
    return chosen if chosen != [1] else [1, *[number for number in parts if number > 1][-1:]]


def _gib(amount: float) -> str:
    return f"{amount / _GIB:.3g} GiB"
