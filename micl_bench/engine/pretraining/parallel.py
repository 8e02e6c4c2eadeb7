"""One model on many devices: replicated (DDP) or sharded (FSDP2), and its state as one whole."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.runtime.distributed import world_size

# Whole tensors on the CPU, whatever the sharding: a state goes on with any number of processes.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def distribute(
    model: PretrainingModel, *, parallel: str, compile_blocks: bool, checkpoint_activations: bool
) -> nn.Module:
    """The model as one of this process's peers, to be called like the model itself.

    Args:
        parallel: `ddp` or `fsdp`; one process that nobody started as one of several needs neither.
    """
    vit = model.vit
    vit.set_grad_checkpointing(checkpoint_activations)
    if compile_blocks:
        # Block by block: they share one compiled program, and the wrappers below stay outside.
        for block in vit.blocks:
            block.compile()
    if not torch.distributed.is_initialized():
        return model
    if parallel == "fsdp":
        for block in vit.blocks:
            fully_shard(block)
        fully_shard(model)
        return model
    return replicate(model, model.mean_P.device)


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
    """Whether the backward passes inside end with the exchange of gradients between processes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(exchange)
    elif isinstance(model, DistributedDataParallel) and not exchange:
        with model.no_sync():
            yield
        return
    yield


def model_of(model: nn.Module) -> PretrainingModel:
    """What `distribute` was given."""
    return model.module if isinstance(model, DistributedDataParallel) else model  # type: ignore[return-value]


def gradient_norm(model: nn.Module, *, clip_norm: float) -> Tensor:
    """L2 norm of all gradients, which are scaled down to `clip_norm` where that is above 0."""
    limit = clip_norm or float("inf")
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def whole_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Weights and optimiser state as whole tensors on the CPU; filled on the first process only
    where they are sharded. Every process must call it."""
    weights, state = get_state_dict(model, optimizer, options=_WHOLE)
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
        options=_WHOLE,
    )


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The ViT's weights as whole tensors; every process must call it."""
    weights = get_model_state_dict(model, options=_WHOLE)
    return {name[4:]: tensor for name, tensor in weights.items() if name.startswith("vit.")}
