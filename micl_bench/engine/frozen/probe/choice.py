"""Which head of a grid gives the number, and a classifier made of it."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from micl_bench.checkpoints import Checkpoint, save_checkpoint
from micl_bench.engine.frozen.knn import top1
from micl_bench.engine.frozen.probe.heads import Head, Probe, Readouts
from micl_bench.records.result import Stage
from micl_bench.runtime.distributed import rank

FOLDABLE = "cls_1"
"""The readout that timm's ViTs can put a head on without another norm."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The best head, and what became of all."""

    head: Head
    row: dict[str, Any]
    """Of the best head, one of `rows`."""
    rows: list[dict[str, Any]]
    """A head each: readout, base_lr, learning_rate in use, top1; None where it diverged."""
    logits_MC: Tensor
    """Of the best head, on the evaluated images."""


def choose_head(
    probe: Probe,
    evaluated: tuple[Readouts, Tensor],
    held_out: tuple[Readouts, Tensor] | None = None,
) -> Choice:
    """Measure every head; the first of the best by top-1 on `held_out`, or else on `evaluated`.

    Args:
        evaluated: readouts and labels_M.
        held_out: the same of images that are in neither set.

    Raises:
        InputError: every head diverged.
    """
    probe.require_finite()
    rows: list[dict[str, Any]] = []
    best: tuple[float, Head, dict[str, Any], Tensor] | None = None
    for head in probe.grid:
        row: dict[str, Any] = {
            "readout": head.readout,
            "base_lr": head.base_lr,
            "learning_rate": probe.plan.scaled(head.base_lr),
            "top1": None,
        }
        rows.append(row)
        if not head.is_finite:
            continue
        logits_MC = probe.logits(head, evaluated[0])
        decisive = row["top1"] = top1(logits_MC, evaluated[1])
        if held_out:
            decisive = top1(probe.logits(head, held_out[0]), held_out[1])
            row["top1_held_out"] = decisive
        if best is None or decisive > best[0]:
            best = decisive, head, row, logits_MC
    assert best is not None
    return Choice(head=best[1], row=best[2], rows=rows, logits_MC=best[3])


def write_classifier(
    path: Path,
    checkpoint: Checkpoint,
    head: Head,
    *,
    img_size: int,
    method: str,
    provenance: dict[str, Any],
    stage: Stage | None = None,
) -> None:
    """Write the backbone with a head that gives the probe's logits; the batch norm is folded into it.

    Args:
        head: one that reads `FOLDABLE`.
        provenance, stage: as `save_checkpoint` takes them.
    """
    weight_CD, bias_C = head.folded()
    model = checkpoint.with_new_head(
        num_classes=len(bias_C), img_size=img_size, drop_path=0.0, pool="token", seed=0
    )
    with torch.no_grad():
        for name, value in (("head.weight", weight_CD), ("head.bias", bias_C)):
            model.get_parameter(name).copy_(value)
    if rank() == 0:
        arch = dataclasses.replace(checkpoint.arch, img_size=img_size)
        save_checkpoint(
            path,
            model,
            arch,
            method=method,
            provenance=provenance,
            stage=stage,
            start=checkpoint,
        )
