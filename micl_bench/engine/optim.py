"""AdamW as MiCL and MAE use it: no decay on norms and biases, layer-wise rates, warm-up, cosine."""

import dataclasses
import math
from typing import Any

import torch
from timm.models import VisionTransformer
from torch import nn

from micl_bench.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW and its schedule. The rate in use is base_lr * batch_size / 256 (Goyal et al. 2017)."""

    base_lr: float
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_epochs: float = 0.0
    layer_decay: float = 1.0
    """Each block learns this much slower than the one above it; 1 for the same rate everywhere."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 for no clipping."""

    def __post_init__(self) -> None:
        # Written so that not-a-number is refused too.
        sane = 0 < self.base_lr < float("inf") and 0 < self.layer_decay <= 1
        sane = sane and self.weight_decay >= 0 and self.warmup_epochs >= 0 and self.clip_norm >= 0
        if not sane or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(
                f"{self}; needed: base_lr > 0 and finite, 0 < layer_decay <= 1, 0 <= betas < 1, "
                "weight_decay, warmup_epochs, clip_norm >= 0"
            )


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Linear from 0 over the warm-up, then a half cosine to 0 at the end."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Groups with `weight_decay` and `lr_scale`; frozen parameters are left out.

    No decay on vectors (norms, biases), [CLS] and positions. Layer 0 is the patch projection, [CLS]
    and positions, layers 1 .. depth are the blocks, the norm and head are on top with scale 1.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        free = parameter.ndim <= 1 or name in ("cls_token", "pos_embed", "reg_token")
        decay = 0.0 if free else config.weight_decay
        scale = config.layer_decay ** _layers_above(model, name)
        group = groups.setdefault(
            (decay, scale), {"params": [], "weight_decay": decay, "lr_scale": scale}
        )
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; call `set_rate` before each step."""
    # fused: one kernel for all parameters instead of several a tensor, same update.
    return torch.optim.AdamW(
        parameter_groups(model, config), lr=config.base_lr, betas=config.betas, fused=True
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def _layers_above(model: nn.Module, name: str) -> int:
    if not isinstance(model, VisionTransformer):
        return 0
    depth = len(model.blocks)
    if name.startswith("blocks."):
        return depth - int(name.split(".")[1])
    in_front = name.startswith("patch_embed.") or name in ("cls_token", "pos_embed", "reg_token")
    return depth + 1 if in_front else 0
