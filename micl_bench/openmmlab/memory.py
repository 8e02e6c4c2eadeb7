"""An estimate of the memory that training a config takes, and a check of it before the start.

One or two made-up images pass once through the model and its loss, on the device and in the precision of
the training; what autograd saves of them grows with their number. It is counted and let go at once, so
that the pass itself needs little memory. Weights, gradients and the optimiser's state follow from the
parameters. Not counted: evaluation, libraries, the allocator's losses, data-loading processes.
"""

import contextlib
import logging
import math
import os
import weakref
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import OPTIMIZERS, DefaultScope
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from micl_bench.openmmlab.input_size import Size
from micl_bench.openmmlab.iteration import build_model, made_up_batch, size_in_training
from micl_bench.openmmlab.vit import micl_vits
from micl_bench.runtime.distributed import any_process
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.memory import free_memory

# By which share an estimate may be too high: what would fit without it is not refused.
_MARGIN = 0.15
_GIB = 1 << 30
_PRECISIONS = {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes that one process takes, with the settings that they depend on."""

    images: int
    passes: int
    """In one step, each of so many images."""
    size: Size
    cast: torch.dtype | None
    checkpointed: bool
    """Whether blocks of the ViT are computed twice."""
    always: int
    """Weights, the optimiser's state, and the buckets of gradients that several processes keep."""
    gradients: int
    kept_per_image: float = 0.0

    @property
    def total(self) -> int:
        """At the worst moment: gradients come as activations go, except those of earlier passes."""
        passing = math.ceil(self.images * self.kept_per_image)
        passing += self.gradients if self.passes > 1 else 0
        return self.always + max(passing, self.gradients)

    def __str__(self) -> str:
        return (
            f"training needs about {_gib(self.total)} for each process (activations of {self.images} "
            f"images of {self.size[0]} x {self.size[1]} in {_PRECISIONS.get(self.cast, self.cast)}: "
            f"{_gib(self.images * self.kept_per_image)}; weights, gradients, optimiser: "
            f"{_gib(self.always + self.gradients)})"
        )


def check_memory(
    config: Config, *, device: torch.device, processes: int = 1, free: int | None = None
) -> Estimate | None:
    """Estimate, and refuse what cannot fit; None if anything keeps it from being estimated.

    The config's `batch_size` is that of one of `processes`, which on a CPU share its memory; `free` is
    in bytes, None for what is free on the device now.

    Raises:
        InputError: less is free, in any process, than the estimate without its margin; it names
            what to lower.
    """
    if free is None:
        together = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        on_gpu = device.type == "cuda"
        free = torch.cuda.mem_get_info(device)[0] if on_gpu else free_memory() // together
    try:
        model = build_model(config).to(device).train()
        found = estimate(config, model, processes=processes)
        # All refuse together: the passes that price what could be lowered may communicate.
        if any_process(0 < free < found.total * (1 - _MARGIN)):
            lower = ", ".join(_lower(found, model, config, free)) or "a smaller architecture"
            raise InputError(
                f"{found}, and {_gib(free)} are free on {device}; lower it by one of: {lower}"
            )
    except InputError:
        raise
    # A config is a program of the user's: what is wrong with it shows when it is built to run.
    except Exception as error:
        gist = f"memory was not estimated: {' '.join(str(error).split())}"
        print_log(gist, logger="current", level=logging.WARNING)
        return None
    return found


def estimate(config: Config, model: nn.Module, *, processes: int = 1) -> Estimate:
    """What one of `processes` takes; the model is the config's, in training, on its device."""
    wrapper = config.optim_wrapper
    weights = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    gradients = sum(part.nbytes for part in model.parameters() if part.requires_grad)
    state = round(gradients * _state_per_byte(wrapper.optimizer))
    plan = Estimate(
        images=config.train_dataloader.batch_size,
        passes=wrapper.get("accumulative_counts", 1),
        size=size_in_training(config, model),
        cast=_cast(wrapper),
        checkpointed=any(vit.activation_checkpointing for vit in micl_vits(model).values()),
        # DistributedDataParallel copies gradients into buckets, which it keeps.
        always=weights + state + (gradients if processes > 1 else 0),
        gradients=gradients,
    )
    return _measured(plan, model, config)


def _cast(wrapper: Any) -> torch.dtype | None:
    kinds = {"Bf16OptimWrapper": "bfloat16", "AmpOptimWrapper": "float16"}
    default = kinds.get(wrapper.get("type"))
    named = default and (wrapper.get("dtype") or default)
    return getattr(torch, named) if isinstance(named, str) else named


def _state_per_byte(optimizer: Any) -> float:
    """Bytes that the optimiser keeps for each byte of trained weights, seen on one parameter."""
    parameter = nn.Parameter(torch.zeros(64, 64))
    parameter.grad = torch.zeros_like(parameter)
    stepping = OPTIMIZERS.build({**optimizer, "params": [parameter]})
    stepping.step()
    state = stepping.state[parameter].values()
    return sum(value.nbytes for value in state if isinstance(value, Tensor)) / parameter.nbytes


def _measured(plan: Estimate, model: nn.Module, config: Config) -> Estimate:
    """The plan with what the model keeps for each image under it."""
    kept = _kept(plan, model, config)
    if plan.checkpointed:
        # One block at a time has what it would keep if no block were computed twice.
        depth = min(len(vit.vit.blocks) for vit in micl_vits(model).values())
        kept += (_kept(replace(plan, checkpointed=False), model, config) - kept) / depth
    return replace(plan, kept_per_image=kept)


def _kept(plan: Estimate, model: Any, config: Config) -> float:
    """Bytes for each image of all that one pass saves, and of the gradient of the largest of it."""
    # Batch norm does not train on one.
    images, device = min(plan.images, 2), next(model.parameters()).device
    sizes: list[int] = []
    alive = {part.untyped_storage().data_ptr() for part in [*model.parameters(), *model.buffers()]}

    def count(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if (address := storage.data_ptr()) not in alive:
            sizes.append(storage.nbytes())
            alive.add(address)
            # The next one may come to lie where this one was.
            weakref.finalize(storage, alive.discard, address)

    for vit in micl_vits(model).values():
        vit.activation_checkpointing = plan.checkpointed
    with (
        DefaultScope.overwrite_default_scope(config.default_scope),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        # Nothing goes backward, so nothing has to be given back.
        saved_tensors_hooks(count, lambda _: torch.empty(0)),
        torch.autocast(device.type, plan.cast, enabled=plan.cast is not None),
    ):
        data = made_up_batch(config, images, plan.size)
        # Not by the model's preprocessor, which may pad to a size of its own.
        images_NCHW = torch.stack(data["inputs"]).to(device).float()
        model(images_NCHW, [sample.to(device) for sample in data["data_samples"]], mode="loss")
    return (images_NCHW.nbytes + sum(sizes) + max(sizes, default=0)) / images


def _lower(found: Estimate, model: nn.Module, config: Config, free: int) -> list[str]:
    """What could be lowered, each alone, with the total that it gives; the lowest first."""
    half = (found.size[0] // 2, found.size[1] // 2)
    plans = {
        # Slower, and the same result.
        "model.backbone.activation_checkpointing=True": replace(found, checkpointed=True),
        "optim_wrapper.type=Bf16OptimWrapper": replace(found, cast=found.cast or torch.bfloat16),
        f"images of {half[0]} x {half[1]}, which is another protocol": replace(found, size=half),
    }
    parts = [
        replace(found, images=number, passes=found.passes * found.images // number)
        for number in range(found.images - 1, 0, -1)
        if found.images % number == 0
    ]
    for fewer in [part for part in parts if part.total <= free][:1] or parts[-2:]:
        what = f"optim_wrapper.accumulative_counts={fewer.passes}"
        if (config.get("auto_scale_lr") or {}).get("base_batch_size") is None:
            what = f"train_dataloader.batch_size={fewer.images} with {what}"
        plans[what] = fewer
    priced = []
    for what, plan in plans.items():
        # A batch norm does not train on one image, for instance: that is no advice.
        with contextlib.suppress(Exception):
            priced.append((_measured(plan, model, config).total, what))
    return [
        f"{what} (about {_gib(total)})" for total, what in sorted(priced) if total < found.total
    ]


def _gib(amount: float) -> str:
    return f"{amount / _GIB:.3g} GiB"
