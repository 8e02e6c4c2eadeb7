"""Parts of tiny random files: networks of timm's under their names, and the state of training."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from layouts import random_state
from timm.models import VisionTransformer
from timm.models.beit import Beit
from torch import Tensor

Writer = Callable[[Path], Path]
State = dict[str, Tensor]

WIDTH, DEPTH, PATCH, SIZE = 128, 2, 8, 32
GRID = SIZE // PATCH
HEADS = WIDTH // 64


def numbers(*shape: int, seed: int) -> Tensor:
    """Return small random numbers, others for every seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def plain_vit(*, seed: int = 0, cls: bool = True, width: int = WIDTH) -> State:
    """Return every tensor of a ViT under the names that most authors kept from timm."""
    model = VisionTransformer(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=width,
        depth=DEPTH,
        num_heads=width // 64,
        num_classes=0,
        class_token=cls,
        global_pool="token" if cls else "avg",
        fc_norm=False,
    )
    return random_state(model, seed)


def beit_vit(*, seed: int = 0, shared: bool, fine_tuned: bool) -> State:
    """Return a ViT with BEiT's parts instead of absolute positions, and its buffers of offsets."""
    model = Beit(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=5 if fine_tuned else 0,
        init_values=0.1,
        use_abs_pos_emb=False,
        use_rel_pos_bias=not shared,
        use_shared_rel_pos_bias=shared,
        global_pool="avg" if fine_tuned else "token",
    )
    tables = ["rel_pos_bias"] if shared else [f"blocks.{n}.attn" for n in range(DEPTH)]
    index = torch.zeros(GRID * GRID + 1, GRID * GRID + 1, dtype=torch.long)
    offsets = {f"{table}.relative_position_index": index for table in tables}
    return random_state(model, seed) | offsets


def prefixed(prefix: str, state: State) -> State:
    return OrderedDict((prefix + name, value) for name, value in state.items())


def saved(folder: Path, name: str, content: dict[str, Any]) -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def training_state() -> dict[str, Any]:
    moments = {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}
    return {
        "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "epoch": 100,
    }
