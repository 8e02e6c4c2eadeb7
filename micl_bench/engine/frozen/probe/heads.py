"""The heads of a linear probe, trained together, and the best of them.

All heads see the same batches and share nothing else, so each ends as if trained alone.

Shapes: N images of a batch, M of a test set, D width, C classes.
"""

import dataclasses
from collections.abc import Callable, Generator
from typing import Any

import torch
import torch.nn.functional as F
from timm.optim import Lars
from torch import Tensor, nn

from micl_bench.engine.frozen.knn import top1
from micl_bench.engine.frozen.probe.probe import (
    INIT_STD,
    MOMENTUM,
    NORM_EPS,
    TRUST_COEFFICIENT,
    ProbeConfig,
    ProbePlan,
)
from micl_bench.runs.loop import Loop, Training
from micl_bench.runs.optim import set_rate
from micl_bench.runs.run import Run
from micl_bench.runtime.errors import InputError

Readouts = dict[str, Tensor]
"""Features of the same images that heads can read, by name: `cls_1` of shape (N, D), `avg_1`, ..."""
FeatureBatches = Callable[[range], Generator[tuple[Readouts, Tensor], None, None]]
"""Readouts of a whole batch and labels_N, on the device, for each of some steps."""

# Rows that a head classifies at a time.
_CHUNK_ROWS = 4096


class Head(nn.Module):
    """Batch norm without affine, if asked for, and one linear layer."""

    def __init__(
        self, readout: str, base_lr: float, width: int, num_classes: int, *, batch_norm: bool
    ) -> None:
        super().__init__()
        self.readout, self.base_lr = readout, base_lr
        self.norm = nn.BatchNorm1d(width, affine=False, eps=NORM_EPS) if batch_norm else None
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features_ND: Tensor) -> Tensor:
        """logits_NC."""
        return self.linear(features_ND if self.norm is None else self.norm(features_ND))

    def folded(self) -> tuple[Tensor, Tensor]:
        """weight_CD and bias_C of the one linear layer that gives the same logits in evaluation.

        W (x - m) / s + b = (W / s) x + (b - (W / s) m), with m and s the running mean and deviation.
        """
        weight_CD, bias_C = self.linear.weight.detach(), self.linear.bias.detach()
        if self.norm is None:
            return weight_CD.clone(), bias_C.clone()
        mean_D, variance_D = self.norm.running_mean, self.norm.running_var
        assert mean_D is not None
        assert variance_D is not None
        weight_CD = weight_CD / (variance_D + self.norm.eps).sqrt()
        return weight_CD, bias_C - weight_CD @ mean_D

    @property
    def is_finite(self) -> bool:
        """False where training diverged."""
        return all(bool(value.isfinite().all()) for value in self.state_dict().values())


class Probe:
    """A grid of heads and its optimiser.

    Heads of one readout, whose width is that of its parts in `widths`, start with the same weights.
    """

    def __init__(
        self,
        config: ProbeConfig,
        plan: ProbePlan,
        *,
        widths: dict[str, int],
        num_classes: int,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        if absent := [name for name in config.reads if name not in widths]:
            raise InputError(
                f"probe.readouts name {', '.join(absent)}; this network gives {', '.join(widths)} "
                "(join several with +)"
            )
        self.plan = plan
        self.grid: list[Head] = []
        """The heads in the order of the configuration: readouts, and rates within."""
        for readout in config.readouts:
            width = sum(widths[part] for part in readout.split("+"))
            for base_lr in config.base_lrs:
                head = Head(readout, base_lr, width, num_classes, batch_norm=config.batch_norm)
                generator = torch.Generator().manual_seed(seed)
                nn.init.normal_(head.linear.weight, std=INIT_STD, generator=generator)
                nn.init.zeros_(head.linear.bias)
                self.grid.append(head)
        self.heads = nn.ModuleList(self.grid).to(device)
        self.optimizer = _optimizer(config, self.grid)

    def train(self, batches: FeatureBatches, run: Run, *, device: torch.device) -> None:
        """Train to the end, from the last saved step on; every process does the same with the same
        batches.
        """
        training = Training(
            label="linear probe",
            numbers=("loss",),
            batches=batches,
            step=lambda batch, step, rate: self.step(*batch, step=step),
            state=self.state,
            load=self.load,
            advice="lower probe.base_lrs",
            # A folder of several evaluations has the metrics of what trains a network.
            keeps_metrics=False,
        )
        loop = Loop(run, self.plan, training, device=device)
        with run.alone(), loop.open():
            loop.train()

    def step(self, features: Readouts, labels_N: Tensor, *, step: int) -> Tensor:
        """Train every head on one batch; returns the lowest of their losses before it, of shape (1,)."""
        self.heads.train()
        self.optimizer.zero_grad(set_to_none=True)
        joined = {name: _join(features, name) for name in {head.readout for head in self.grid}}
        losses = []
        # The backbone may run in another precision around this.
        with torch.autocast(labels_N.device.type, enabled=False):
            for head in self.grid:
                loss = F.cross_entropy(head(joined[head.readout]), labels_N)
                # One head's graph at a time: together they would not fit.
                loss.backward()
                losses.append(loss.detach())
        set_rate(self.optimizer, self.plan.rate(step))
        self.optimizer.step()
        return torch.stack(losses).nan_to_num(nan=torch.inf).min()[None]

    def require_finite(self) -> None:
        """Raise an InputError where no head is left that could give a number."""
        if not any(head.is_finite for head in self.grid):
            raise InputError("the probe's loss is not finite; lower probe.base_lrs")

    @torch.inference_mode()
    def logits(self, head: Head, features: Readouts) -> Tensor:
        """logits_MC of one head in evaluation, on the CPU, in chunks."""
        head.eval()
        device, M = head.linear.weight.device, len(next(iter(features.values())))
        found = []
        for first in range(0, M, _CHUNK_ROWS):
            rows = slice(first, first + _CHUNK_ROWS)
            part = {name: values[rows].to(device) for name, values in features.items()}
            found.append(head(_join(part, head.readout)))
        return torch.cat(found).cpu()

    def state(self) -> dict[str, Any]:
        """Everything that training goes on from."""
        self.require_finite()
        return {"heads": self.heads.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])


def _join(features: Readouts, readout: str) -> Tensor:
    return torch.cat([features[part] for part in readout.split("+")], dim=1)


def _optimizer(config: ProbeConfig, heads: list[Head]) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = []
    for head in heads:
        # You et al. 2017, as MAE uses it: the norm of a vector (bias) says nothing about its rate.
        for value, adapts in ((head.linear.weight, True), (head.linear.bias, False)):
            group = {"params": [value], "lr_scale": head.base_lr}
            groups.append(group | ({"always_adapt": adapts} if config.optimizer == "lars" else {}))
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM)
    return Lars(groups, lr=0.0, momentum=MOMENTUM, trust_coeff=TRUST_COEFFICIENT, eps=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The best head, and what became of all."""

    head: Head
    row: dict[str, Any]
    """The row of the best head, one of `rows`."""
    rows: list[dict[str, Any]]
    """A row per head: readout, base_lr, learning_rate in use, top1; None where it diverged."""
    logits_MC: Tensor
    """Logits of the best head on the evaluated images."""


def choose_head(
    probe: Probe,
    evaluated: tuple[Readouts, Tensor],
    held_out: tuple[Readouts, Tensor] | None = None,
) -> Choice:
    """Measure every head on readouts and labels_M; the first of the best by top-1 on `held_out`, images
    that are in neither set, or else on `evaluated`."""
    probe.require_finite()
    rows: list[dict[str, Any]] = []
    best, found = -1.0, None
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
            decisive = row["top1_held_out"] = top1(probe.logits(head, held_out[0]), held_out[1])
        if decisive > best:
            best = decisive
            found = Choice(head=head, row=row, rows=rows, logits_MC=logits_MC)
    assert found
    return found
