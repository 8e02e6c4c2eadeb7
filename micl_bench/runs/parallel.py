"""One model on many devices, and its state as one whole, whatever the sharding."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from micl_bench.runtime.distributed import world_size

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
"""Whole tensors on the CPU, whatever the sharding: a state goes on with any number of processes."""


def replicate(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with a copy on every process, whose gradients are averaged (DDP)."""
    if world_size() == 1:
        return model
    # Buffers are constants here. Torch renames the option, and warns of the old name.
    parameters = inspect.signature(DistributedDataParallel).parameters
    known = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"
    options: dict[str, Any] = {known: False}
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **options,
    )


@contextmanager
def exchanging(model: nn.Module, exchange: bool) -> Iterator[None]:
    """Choose whether backward passes inside of the block exchange gradients between processes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(exchange)
    elif isinstance(model, DistributedDataParallel) and not exchange:
        with model.no_sync():
            yield
        return
    yield


def gradient_norm(model: nn.Module, *, clip_norm: float) -> Tensor:
    """L2 norm of all gradients, which are scaled down to `clip_norm` where that is above 0."""
    limit = clip_norm or float("inf")
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def whole_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Weights and optimiser state as whole tensors on the CPU; filled on the first process only
    where they are sharded. Every process must call it."""
    weights, state = get_state_dict(model, optimizer, options=WHOLE)
    return {"model": weights, "optimizer": state}


def load_whole_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Load what `whole_state` gave, perhaps in a run of other processes."""
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=WHOLE,
    )
