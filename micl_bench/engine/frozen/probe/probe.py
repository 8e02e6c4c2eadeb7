"""The training of linear classifiers on frozen features: one, as in MAE, or a grid, as in DINOv2."""

import dataclasses
from typing import Annotated, Any, Literal

from micl_bench.runs.optim import OptimConfig, learning_rate
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import (
    LARGEST,
    Amount,
    Count,
    Listed,
    NotNegative,
    Positive,
    Values,
    Within,
)

MOMENTUM = 0.9
TRUST_COEFFICIENT = 0.001
NORM_EPS = 1e-6
INIT_STD = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig(Values):
    """The grid of heads and how they are trained. Defaults: MAE's linear probe.

    He et al. 2022, appendix A.1 and table 10, and the authors' `main_linprobe.py`: batch norm without
    affine and with eps 1e-6, weights of std 0.01, LARS with momentum 0.9, trust coefficient 0.001
    and no weight decay, cosine to 0.
    """

    readouts: Annotated[tuple[str, ...], Listed()] = ("cls_1",)
    """Readouts of heads, of the last block (1), the one before (2), ..., after the final norm: [CLS]
    (`cls_1`), the mean of the patches (`avg_1`), or several side by side (`cls_2+cls_1+avg_1`)."""
    base_lrs: Annotated[tuple[Positive, ...], Listed()] = (0.1,)
    """A head for each of these and each readout; the rate in use is base_lr * batch / 256."""
    batch_norm: bool = True
    """Batch norm over the whole batch of all processes, without affine."""
    optimizer: Literal["lars", "sgd"] = "lars"
    """`lars` (You et al. 2017, not for biases) or `sgd`."""
    epochs: Count = 90
    steps: Amount = 0
    """Above 0: the length in steps, instead of in epochs."""
    warmup_epochs: NotNegative = 10
    batch_size: Annotated[int, Within(2, LARGEST)] = 16384
    """Over all processes; all training images where there are fewer."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Every single readout that some head reads."""
        return tuple(dict.fromkeys(part for name in self.readouts for part in name.split("+")))

    @property
    def heads(self) -> int:
        """Size of the grid."""
        return len(self.readouts) * len(self.base_lrs)

    def plan(self, images: int, *, save_every_steps: int = 50) -> "ProbePlan":
        """The schedule on so many training images."""
        if images < 2:
            raise InputError("a linear probe needs two or more training images")
        batch = min(self.batch_size, images)
        return ProbePlan(
            # The base rate is each head's own.
            optim=OptimConfig(base_lr=1.0, warmup_epochs=self.warmup_epochs),
            epochs=self.epochs,
            batch_size=batch,
            steps_per_epoch=images // batch,
            steps=self.steps,
            save_every_steps=save_every_steps,
        )

    def settings(self, plan: "ProbePlan") -> dict[str, Any]:
        """The settings that move the number, in words and in the rates and steps that are in use."""
        norm = f"batch norm of the whole batch, without affine, eps {NORM_EPS:g}; "
        trust = f", trust coefficient {TRUST_COEFFICIENT:g}, not for biases"
        return {
            "head": f"{norm if self.batch_norm else ''}linear, weights of std {INIT_STD:g}",
            "readouts": list(self.readouts),
            "learning_rates": [plan.scaled(rate) for rate in self.base_lrs],
            "batch": plan.batch_size,
            "optimizer": f"{self.optimizer}, momentum {MOMENTUM:g}, no weight decay"
            + (trust if self.optimizer == "lars" else ""),
            "schedule": f"cosine to 0, {plan.warmup_steps} of {plan.total_steps} steps of warm-up",
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbePlan(TrainingPlan):
    """Batch and schedule in numbers; rates are those of a head whose base rate is 1."""

    steps: int = 0
    """Above 0: the length, instead of epochs."""

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps or super().total_steps

    def scaled(self, base_lr: float) -> float:
        """The largest rate in use, by the linear rule (Goyal et al. 2017)."""
        return base_lr * self.batch_size / 256

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        # Scaled at the end: every head's rate is a share of its largest one.
        return self.peak_rate * learning_rate(
            step, peak=1.0, warmup_steps=self.warmup_steps, total_steps=self.total_steps
        )
