"""AdamW as MiCL and MAE use it: no decay on norms and biases, layer-wise rates, warm-up, cosine."""

import dataclasses
import math
import re
from typing import Annotated, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Fraction, NotNegative, Positive, Values, Within

Beta = Annotated[float, Within(least=0, below=1)]

# Above the blocks in every ViT of timm, whatever it declares: these learn at the full rate, as in MAE.
_ON_TOP = ("norm.", "fc_norm.", "head.", "attn_pool.")
# Rotary frequencies that are learnt are positions, whatever timm declares.
_AT_THE_BOTTOM = ("rope.",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig(Values):
    """AdamW and its schedule. The rate in use is base_lr * batch_size / 256 (Goyal et al. 2017)."""

    base_lr: Positive
    weight_decay: NotNegative = 0.05
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    warmup_epochs: NotNegative = 0.0
    layer_decay: Fraction = 1.0
    """Each block learns this much slower than the one above it; 1 for the same rate everywhere."""
    clip_norm: NotNegative = 0.0
    """Largest gradient norm; 0 for no clipping."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RisingDecay(OptimConfig):
    """The same with a weight decay that changes from step to step, as DINO and I-JEPA have it."""

    final_weight_decay: NotNegative
    """Weight decay at the end; a half cosine leads there from `weight_decay`, without a warm-up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weight_decay:
            # A group without decay is one of norms and biases, which never has any.
            raise InputError(
                "weight_decay is 0; needed: above 0, where final_weight_decay follows it"
            )

    def decay(self, progress: float) -> float:
        """Weight decay once this share of the steps is done."""
        start, end = self.weight_decay, self.final_weight_decay
        return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def learning_rate(
    step: int, *, peak: float, warmup_steps: int, total_steps: int, floor: float = 0.0
) -> float:
    """Linear from 0 over the warm-up, then a half cosine to `floor` at the end."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Groups with `weight_decay` and `lr_scale`; frozen parameters are left out.

    No decay on vectors (norms, biases, layer scales), nor on what the model declares free of it
    (timm's `no_weight_decay`: [CLS], registers, positions, tables of relative positions). The scale
    is `layer_decay` to the number of layers above: see `layers_above`.
    """
    model = model.module if isinstance(model, DistributedDataParallel) else model
    above = layers_above(model) if config.layer_decay < 1 else {}
    free: Any = getattr(model, "no_weight_decay", frozenset)
    never_decayed = free()
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        vector = parameter.ndim <= 1 or name in never_decayed
        decay = 0.0 if vector else config.weight_decay
        scale = config.layer_decay ** above.get(name, 0)
        group = groups.setdefault(
            (decay, scale), {"params": [], "weight_decay": decay, "lr_scale": scale}
        )
        group["params"].append(parameter)
    return list(groups.values())


def layers_above(model: nn.Module) -> dict[str, int]:
    """Number of layers above each parameter's own, by name, as the model declares its layers.

    Of timm's `group_matcher` the stem (patch projection, [CLS], registers, positions) is layer 0 and
    block i is layer i + 1; the final norm and the head are the top (Clark et al. 2020; Bao et al.
    2021; MAE, table 9).

    Raises:
        InputError: the model declares no layers, or a parameter is in none of them.
    """
    matcher: Any = getattr(model, "group_matcher", None)
    if matcher is None:
        raise InputError(
            f"{type(model).__name__} does not declare its layers (timm's group_matcher); set "
            "optim.layer_decay=1"
        )
    declared = matcher()
    (block, _), *_ = declared["blocks"]
    stem = re.compile(declared["stem"])
    layers = {name: _layer(name, stem, re.compile(block)) for name, _ in model.named_parameters()}
    known = [layer for layer in layers.values() if layer is not None]
    unknown = [
        name for name, layer in layers.items() if layer is None and not name.startswith(_ON_TOP)
    ]
    if unknown or not any(known):
        raise InputError(
            f"{type(model).__name__}: the layer of {', '.join(unknown[:3]) or 'no block'} is not "
            "declared; set optim.layer_decay=1"
        )
    top = max(known) + 1
    return {name: 0 if layer is None else top - layer for name, layer in layers.items()}


def _layer(name: str, stem: re.Pattern[str], block: re.Pattern[str]) -> int | None:
    if stem.match(name) or name.startswith(_AT_THE_BOTTOM):
        return 0
    found = block.match(name)
    return int(found.group(1)) + 1 if found else None


def build_optimizer(model: nn.Module, config: OptimConfig, *on_top: nn.Module) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; call `set_rate` before each step. The modules `on_top` of the model
    learn at the full rate."""
    groups = parameter_groups(model, config)
    for module in on_top:
        groups += parameter_groups(module, dataclasses.replace(config, layer_decay=1.0))
    # fused: one kernel for all parameters instead of several a tensor, same update.
    return torch.optim.AdamW(groups, lr=config.base_lr, betas=config.betas, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def set_decay(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """Give every group that has any weight decay this one."""
    for group in optimizer.param_groups:
        if group["weight_decay"]:
            group["weight_decay"] = decay
