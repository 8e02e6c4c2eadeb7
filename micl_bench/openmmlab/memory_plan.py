"""What one process takes to train a model under a plan: batch, size, precision, processes."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from micl_bench.openmmlab.configs import evaluates_each_image
from micl_bench.openmmlab.fake_pass import (
    Pass,
    evaluation_pass,
    optimiser_bytes,
    training_pass,
)
from micl_bench.openmmlab.find_vit import micl_vits
from micl_bench.openmmlab.input_size import Size, evaluation_size
from micl_bench.openmmlab.iteration import size_in_training
from micl_bench.openmmlab.vit import MiCLViT

_CASTS = {"Bf16OptimWrapper": torch.bfloat16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes that one process takes. Not all of it at once: gradients come as activations go."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    optimiser: int
    """State between steps; AdamW's is twice the weights."""
    activations: int
    """Kept for the backward pass."""
    inputs: int
    evaluation: int
    """An evaluated batch, at its worst moment."""
    total: int
    """At the worst moment of all."""
    left_out: str
    """What could not be traced, with the reason; empty if nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What an estimate depends on beside the model's own parts."""

    device: torch.device
    processes: int
    images: int
    size: Size
    passes: int
    cast: torch.dtype | None
    segments: bool
    optimizer: Any
    evaluated: tuple[int, Size] | None
    vit: tuple[tuple[str, Any], ...] = ()
    """Attributes of the `MiCLViT` that differ from the model's."""


def plan_of(config: Config, model: nn.Module, device: torch.device, processes: int) -> Plan:
    """The config's own plan."""
    wrapper = config.optim_wrapper
    size = evaluation_size(config)
    return Plan(
        device=device,
        processes=processes,
        images=config.train_dataloader.batch_size,
        size=size_in_training(config, model),
        passes=wrapper.get("accumulative_counts", 1),
        cast=_cast(wrapper),
        segments=config.default_scope == "mmseg",
        optimizer=wrapper.optimizer,
        evaluated=(_evaluated_together(config), size) if size else None,
    )


def _evaluated_together(config: Config) -> int:
    one = evaluates_each_image(config.get("val_cfg"))
    return 1 if one else config.val_dataloader.get("batch_size", 1)


def _cast(wrapper: Any) -> torch.dtype | None:
    kind = wrapper.get("type", "OptimWrapper")
    if kind != "AmpOptimWrapper":
        return _CASTS.get(kind)
    named = wrapper.get("dtype") or "float16"
    return getattr(torch, named) if isinstance(named, str) else named


def estimate_plan(model: nn.Module, plan: Plan) -> Estimate:
    """Trace a pass, an evaluated batch and an optimiser's step; the model stays as it is."""
    device, segments = plan.device, plan.segments
    with _changed(model, plan.vit):
        training = training_pass(
            model,
            plan.images,
            plan.size,
            device=device,
            cast=plan.cast,
            accumulates=plan.passes > 1,
            segments=segments,
        )
        evaluation = Pass(inputs=0, kept=0, peak=0)
        if plan.evaluated:
            evaluation = evaluation_pass(model, *plan.evaluated, device=device, segments=segments)
    state, stepping = optimiser_bytes(model, plan.optimizer, device=device)
    weights = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    gradients = sum(part.nbytes for part in model.parameters() if part.requires_grad)
    # DistributedDataParallel copies gradients into buckets, which it keeps.
    always = weights + state + (gradients if plan.processes > 1 else 0)
    step = training.peak + (gradients if plan.passes > 1 else 0)
    return Estimate(
        weights=weights,
        gradients=gradients,
        optimiser=state,
        activations=training.kept,
        inputs=training.inputs,
        evaluation=evaluation.peak,
        total=always + max(step, gradients + stepping, evaluation.peak),
        left_out="; ".join(part for part in (training.left_out, evaluation.left_out) if part),
    )


@contextmanager
def _changed(model: nn.Module, attributes: tuple[tuple[str, Any], ...]) -> Iterator[None]:
    """Other options of the `MiCLViT`s meanwhile: they are read when it runs."""
    before = [(vit, name, getattr(vit, name)) for vit in vits_of(model) for name, _ in attributes]
    try:
        for vit in vits_of(model):
            for name, value in attributes:
                setattr(vit, name, value)
        yield
    finally:
        for vit, name, value in before:
            setattr(vit, name, value)


def vits_of(model: nn.Module) -> list[MiCLViT]:
    """Every `MiCLViT` of a model."""
    return list(micl_vits(model).values())
