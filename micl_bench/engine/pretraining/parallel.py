"""A pre-training model on many devices: replicated (DDP) or sharded (FSDP2)."""

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.runs.parallel import WHOLE, replicate


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


def model_of(model: nn.Module) -> PretrainingModel:
    """What `distribute` was given."""
    return model.module if isinstance(model, DistributedDataParallel) else model  # type: ignore[return-value]


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The ViT's weights as whole tensors; every process must call it."""
    weights = get_model_state_dict(model, options=WHOLE)
    return {
        name.removeprefix("vit."): tensor
        for name, tensor in weights.items()
        if name.startswith("vit.")
    }
