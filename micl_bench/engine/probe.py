"""How linear classifiers on frozen features are trained: one, as in MAE, or a grid, as in DINOv2."""

import dataclasses
from typing import Any

from micl_bench.engine.optim import learning_rate
from micl_bench.errors import InputError

MOMENTUM = 0.9
TRUST_COEFFICIENT = 0.001
NORM_EPS = 1e-6
INIT_STD = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """The grid of heads and how they are trained. Defaults: MAE's linear probe.

    He et al. 2022, appendix A.1 and table 10, and the authors' `main_linprobe.py`: batch norm without
    affine and with eps 1e-6, weights of std 0.01, LARS with momentum 0.9, trust coefficient 0.001
    and no weight decay, cosine to 0.
    """

    readouts: tuple[str, ...] = ("cls_1",)
    """What a head reads, of the last block (1), the one before (2), ..., after the final norm: [CLS]
    (`cls_1`), the mean of the patches (`avg_1`), or several side by side (`cls_2+cls_1+avg_1`)."""
    base_lrs: tuple[float, ...] = (0.1,)
    """A head for each of these and each readout; the rate in use is base_lr * batch / 256."""
    batch_norm: bool = True
    """Of the whole batch, over all processes; without affine."""
    optimizer: str = "lars"
    """`lars` (You et al. 2017, not for biases) or `sgd`."""
    epochs: int = 90
    steps: int = 0
    """Above 0: the length in steps, instead of in epochs."""
    warmup_epochs: float = 10
    batch_size: int = 16384
    """Over all processes; all training images where there are fewer."""

    def __post_init__(self) -> None:
        if not self.base_lrs or not all(0 < rate < float("inf") for rate in self.base_lrs):
            raise InputError(f"base_lrs are {self.base_lrs}; needed: one or more, above 0, finite")
        if self.optimizer not in ("lars", "sgd"):
            raise InputError(f"optimizer is {self.optimizer!r}; needed: lars or sgd")
        if not self.readouts:
            raise InputError("readouts are empty; give cls_1, avg_1 or cls_2+cls_1+avg_1")
        if self.epochs < 1 or self.steps < 0 or self.warmup_epochs < 0 or self.batch_size < 2:
            raise InputError(
                f"epochs {self.epochs}, steps {self.steps}, warmup_epochs {self.warmup_epochs}, "
                f"batch_size {self.batch_size}; needed: epochs >= 1, steps, warmup_epochs >= 0, "
                "batch_size >= 2"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """Every single readout that some head reads."""
        return tuple(dict.fromkeys(part for name in self.readouts for part in name.split("+")))

    @property
    def heads(self) -> int:
        """Size of the grid."""
        return len(self.readouts) * len(self.base_lrs)

    def plan(self, images: int) -> "ProbePlan":
        """The schedule on so many training images.

        Raises:
            InputError: fewer than two.
        """
        if images < 2:
            raise InputError("a linear probe needs two or more training images")
        batch = min(self.batch_size, images)
        per_epoch = images // batch
        return ProbePlan(
            images=images,
            batch_size=batch,
            warmup_steps=round(self.warmup_epochs * per_epoch),
            total_steps=self.steps or self.epochs * per_epoch,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbePlan:
    """Batch and schedule in numbers."""

    images: int
    batch_size: int
    warmup_steps: int
    total_steps: int

    def scaled(self, base_lr: float) -> float:
        """The largest rate in use, by the linear rule (Goyal et al. 2017)."""
        return base_lr * self.batch_size / 256

    def share(self, step: int) -> float:
        """Rate of a step as a share of the largest."""
        return learning_rate(
            step, peak=1.0, warmup_steps=self.warmup_steps, total_steps=self.total_steps
        )


def probe_settings(config: ProbeConfig, plan: ProbePlan) -> dict[str, Any]:
    """What of it moves the number, in words and in the rates and steps that were in use."""
    norm = f"batch norm of the whole batch, without affine, eps {NORM_EPS:g}; "
    trust = f", trust coefficient {TRUST_COEFFICIENT:g}, not for biases"
    return {
        "head": f"{norm if config.batch_norm else ''}linear, weights of std {INIT_STD:g}",
        "readouts": list(config.readouts),
        "learning_rates": [plan.scaled(rate) for rate in config.base_lrs],
        "batch": plan.batch_size,
        "optimizer": f"{config.optimizer}, momentum {MOMENTUM:g}, no weight decay"
        + (trust if config.optimizer == "lars" else ""),
        "schedule": f"cosine to 0, {plan.warmup_steps} of {plan.total_steps} steps of warm-up",
    }
