"""A hook that compares weights before the first step: over processes, and with the checkpoint."""

import hashlib
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from micl_bench.openmmlab.vit import micl_vits, unwrapped
from micl_bench.runtime.errors import InputError


@HOOKS.register_module()
class MiCLSameWeights(Hook):
    """`custom_hooks=[dict(type="MiCLSameWeights")]`: refuse to train on weights that are not meant.

    Digests (SHA-256) of every parameter and buffer are compared over processes. Those of each ViT are
    also compared with what it held when the run began, before mmengine initialised the model; a run
    that goes on, or that loads a whole model, may differ there. Not for models whose parameters are
    cut over processes (FSDP).
    """

    # After all that other hooks may do to the model.
    priority = "LOWEST"

    def __init__(self) -> None:
        self._checkpoint: dict[str, str] = {}
        self._loaded = self._compared = False

    def before_run(self, runner: Runner) -> None:
        """Note what each `MiCLViT` read from its checkpoint."""
        self._checkpoint = {
            f"{prefix}vit.{name}": digest
            for prefix, micl_vit in micl_vits(unwrapped(runner.model)).items()
            for name, digest in digests(micl_vit.vit).items()
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note that a run goes on, or that a whole model is loaded: the ViT's weights are from there."""
        self._loaded = True

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Compare once.

        Raises:
            InputError: a tensor that differs, by name, and on which processes.
        """
        if self._compared:
            return
        self._compared = True
        found = digests(unwrapped(runner.model))
        # First what every process raises alike: one that stopped alone would leave the others waiting.
        _require_same(all_gather_object(found))
        before = {} if self._loaded or runner.iter else self._checkpoint
        if changed := [name for name, digest in before.items() if found.get(name) != digest]:
            raise InputError(
                f"{changed[0]} does not hold the checkpoint's weights any more ({len(changed)} of "
                f"{len(before)} tensors changed before the first step); look for an init_cfg or a "
                "hook that initialises the backbone again"
            )


def digests(model: nn.Module) -> dict[str, str]:
    """SHA-256 of each parameter and buffer by name, those that are not saved with a model too."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def _digest(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(content.numpy().data)
    return digest.hexdigest()


def _require_same(ranks: list[dict[str, str]]) -> None:
    names = dict.fromkeys(name for found in ranks for name in found)
    differing = [name for name in names if len({found.get(name) for found in ranks}) > 1]
    if differing:
        name = differing[0]
        others = [str(r) for r, found in enumerate(ranks) if found.get(name) != ranks[0].get(name)]
        raise InputError(
            f"{name} is not the same on all processes: rank {', '.join(others)} of {len(ranks)} "
            f"differs from rank 0 ({len(differing)} of {len(names)} tensors differ); look for a hook "
            "or an init that loads or draws weights on one process alone"
        )
