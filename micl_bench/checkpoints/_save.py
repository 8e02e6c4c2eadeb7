"""Writing our own layout."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from timm.models import VisionTransformer

from micl_bench.backbone import Arch
from micl_bench.files import atomic_path, digest_file


def save_checkpoint(
    path: Path, model: VisionTransformer, arch: Arch, *, method: str, provenance: dict[str, Any]
) -> str:
    """Write weights, architecture and provenance atomically; returns the file's SHA-256.

    Args:
        method: what made the weights, as tables print it.
        provenance: plain values: recipe, seed, steps, command, parent checkpoint, ...
    """
    content = {
        "micl_bench": 1,
        "arch": dataclasses.asdict(arch),
        "method": method,
        "pool": model.global_pool,
        "num_classes": model.num_classes,
        "provenance": provenance,
        "model": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return digest_file(path)
