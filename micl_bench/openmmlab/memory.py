"""An estimate of the memory that training a config takes, and a check of it before the start.

One or two made-up images pass once through the model and its loss, on the device and in the precision of
the training. The bytes that autograd saves of them are counted and let go at once, so that the pass
needs little memory. Weights, gradients and the optimiser's state follow from the parameters. Evaluation,
libraries, the allocator's losses and loader processes are not counted.
"""

import contextlib
import copy
import logging
import math
import os
import weakref
from dataclasses import dataclass
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
from micl_bench.runtime.distributed import all_rows, any_process
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.memory import free_memory

# By which share an estimate may be too high: what would fit without it is not refused.
_MARGIN = 0.15
_TWICE, _PASSES = "activation_checkpointing", "accumulative_counts"
_BATCH = "train_dataloader.batch_size"
_CASTS = {"Bf16OptimWrapper": torch.bfloat16, "AmpOptimWrapper": torch.float16}
_PRECISIONS = {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes that training takes in one process."""

    activations: int
    gradients: int
    always: int
    """Weights, the optimiser's state, and the buckets of gradients that several processes keep."""
    total: int
    """At the worst moment: gradients come as activations go, except those of earlier passes."""
    about: str
    """The images and the precision, in words."""

    def __str__(self) -> str:
        return (
            f"training needs about {_gib(self.total)} for each process (activations of {self.about}: "
            f"{_gib(self.activations)}; weights, gradients, optimiser: "
            f"{_gib(self.always + self.gradients)})"
        )


def check_memory(
    config: Config, *, device: torch.device, processes: int = 1, free: int | None = None
) -> Estimate | None:
    """Estimate, and refuse what cannot fit; returns None where any process cannot estimate it.

    The config's `batch_size` is that of one of `processes`, which on a CPU share its memory; `free` is
    in bytes, None for the memory that is free on the device now.

    Raises:
        InputError: less is free, in any process, than the estimate without its margin; the message
            says what to lower.
    """
    if free is None and device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif free is None:
        free = free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    found = None
    try:
        model = build_model(config).to(device).train()
        found = estimate(config, model, processes=processes)
    except InputError:
        raise
    # A config is a program of the user's: its faults show when it is built to run.
    except Exception as error:
        gist = f"memory was not estimated: {' '.join(str(error).split())}"
        print_log(gist, logger="current", level=logging.WARNING)
    # All agree, and refuse together: the passes that price what could be lowered may communicate.
    if any_process(found is None) or not found:
        return None
    free = int(all_rows(torch.tensor([[free]])).min())
    if any_process(0 < free < found.total * (1 - _MARGIN)):
        lower = _lower(config, model, processes, found=found, free=free)
        raise InputError(
            f"{found}, and {_gib(free)} are free on {device}; lower it by one of: {lower}"
        )
    return found


def estimate(config: Config, model: nn.Module, *, processes: int = 1) -> Estimate:
    """The estimate for one of `processes`; the model is the config's, in training, on its device."""
    wrapper, images = config.optim_wrapper, config.train_dataloader.batch_size
    cast = _CASTS.get(wrapper.get("type"))
    if cast and (named := wrapper.get("dtype")):
        cast = getattr(torch, named) if isinstance(named, str) else named
    size, twice = size_in_training(config, model), config.model.backbone.get(_TWICE, False)
    kept = _kept(config, model, size, cast, twice=twice)
    if twice:
        # One block at a time has what it would keep if no block were computed twice.
        depth = min(len(vit.vit.blocks) for vit in micl_vits(model).values())
        kept += (_kept(config, model, size, cast, twice=False) - kept) / depth
    activations = math.ceil(images * kept)
    weights = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    gradients = sum(part.nbytes for part in model.parameters() if part.requires_grad)
    # DistributedDataParallel copies gradients into buckets, which it keeps.
    always = weights + round(gradients * (_state_per_byte(wrapper.optimizer) + (processes > 1)))
    passing = activations + (gradients if wrapper.get(_PASSES, 1) > 1 else 0)
    return Estimate(
        activations=activations,
        gradients=gradients,
        always=always,
        total=always + max(passing, gradients),
        about=f"{images} images of {size[0]} x {size[1]} in {_PRECISIONS.get(cast, cast)}",
    )


def _state_per_byte(optimizer: Any) -> float:
    """Bytes that the optimiser keeps for each byte of trained weights, seen on one parameter."""
    parameter = nn.Parameter(torch.zeros(64, 64))
    parameter.grad = torch.zeros_like(parameter)
    stepping = OPTIMIZERS.build({**optimizer, "params": [parameter]})
    stepping.step()
    state = stepping.state[parameter].values()
    return sum(value.nbytes for value in state if isinstance(value, Tensor)) / parameter.nbytes


def _kept(
    config: Config, model: Any, size: Size, cast: torch.dtype | None, *, twice: bool
) -> float:
    """Bytes per image of all that one pass saves, and of the gradient of the largest of it.

    With `twice` the ViT's blocks are computed twice, and keep their input alone.
    """
    # Batch norm does not train on one.
    images, device = min(config.train_dataloader.batch_size, 2), next(model.parameters()).device
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
        vit.activation_checkpointing = twice
    with (
        DefaultScope.overwrite_default_scope(config.default_scope),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        # Nothing goes backward, so nothing has to be given back.
        saved_tensors_hooks(count, lambda _: torch.empty(0)),
        torch.autocast(device.type, cast, enabled=cast is not None),
    ):
        data = made_up_batch(config, images, size)
        # Not by the model's preprocessor, which may pad to a size of its own.
        images_NCHW = torch.stack(data["inputs"]).to(device).float()
        model(images_NCHW, [sample.to(device) for sample in data["data_samples"]], mode="loss")
    return (images_NCHW.nbytes + sum(sizes) + max(sizes, default=0)) / images


def _lower(config: Config, model: nn.Module, processes: int, found: Estimate, free: int) -> str:
    """The changes that lower the estimate, each alone with its total, the lowest first."""
    half = [side // 2 for side in size_in_training(config, model)]
    smaller = f"images of {half[0]} x {half[1]}, which is another protocol"
    images = config.train_dataloader.batch_size
    changes: dict[str, dict[str, Any]] = {
        # Slower, and the same result.
        f"model.backbone.{_TWICE}=True": {f"model.backbone.{_TWICE}": True},
        "optim_wrapper.type=Bf16OptimWrapper": {"optim_wrapper.type": "Bf16OptimWrapper"},
        smaller: {"model.data_preprocessor.size": half},
    }
    fewer = [number for number in range(images - 1, 0, -1) if images % number == 0]
    needed = found.always + found.gradients
    fit = [number for number in fewer if needed + found.activations * number / images <= free]
    total_batch = (config.get("auto_scale_lr") or {}).get("base_batch_size") is not None
    for number in fit[:1] or fewer[-2:]:
        passes = config.optim_wrapper.get(_PASSES, 1) * images // number
        what = f"optim_wrapper.{_PASSES}={passes}"
        what = what if total_batch else f"{_BATCH}={number} with {what}"
        changes[what] = {_BATCH: number, f"optim_wrapper.{_PASSES}": passes}
    priced = []
    for what, change in changes.items():
        changed = copy.deepcopy(config)
        changed.merge_from_dict(change)
        # A batch norm does not train on one image, for instance: that is no advice.
        with contextlib.suppress(Exception):
            priced.append((estimate(changed, model, processes=processes).total, what))
    cheaper = [f"{what} (about {_gib(n)})" for n, what in sorted(priced) if n < found.total]
    return ", ".join(cheaper) or "a smaller architecture"


def _gib(amount: float) -> str:
    return f"{amount / (1 << 30):.3g} GiB"
