"""The sizes that follow from a training's length, its number of images and of processes."""

import dataclasses

from micl_bench.runs.optim import OptimConfig, learning_rate
from micl_bench.runtime.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Sizes of a run."""

    optim: OptimConfig
    epochs: int
    batch_size: int
    """Images of a step over all processes."""
    steps_per_epoch: int
    """Full batches in one epoch."""
    processes: int = 1
    """Processes that train together."""
    micro_batch: int = 0
    """Images of a forward pass on one device; 0 for its whole share."""
    save_every_steps: int
    check_every_epochs: int = 0
    """Epochs between two looks at held-out images; 0 for never."""
    checks_ends: bool = True
    """Look at them before the first step and after the last one, too."""
    floor: float = 0.0
    """Learning rate at the end."""

    def __post_init__(self) -> None:
        if self.batch_size % self.processes:
            raise InputError(
                f"batch_size {self.batch_size} cannot be split over {self.processes} processes "
                "evenly; change either"
            )

    @property
    def share(self) -> int:
        """Images of a step on one device."""
        return self.batch_size // self.processes

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Steps over which the rate rises."""
        return round(self.optim.warmup_epochs * self.steps_per_epoch)

    @property
    def peak_rate(self) -> float:
        """Largest learning rate, by the linear rule (Goyal et al. 2017)."""
        return self.optim.base_lr * self.batch_size / 256

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return learning_rate(
            step,
            peak=self.peak_rate,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
            floor=self.floor,
        )

    def save_due(self, step: int) -> bool:
        """Return True where a state is saved after so many steps."""
        return step % self.save_every_steps == 0 or step == self.total_steps

    def check_due(self, step: int) -> bool:
        """Return True where held-out images are looked at after so many steps."""
        every = self.check_every_epochs * self.steps_per_epoch
        if not every or (not self.checks_ends and step in (0, self.total_steps)):
            return False
        return step % every == 0 or step == self.total_steps

    def describe(self, comparisons: str = "") -> str:
        """Return a text that a person should check before a long run; `comparisons` says how the images
        of a batch meet."""
        optim, forward = self.optim, min(self.micro_batch or self.share, self.share)
        passes = f"{self.processes} x {self.share} images, {forward} a forward pass"
        never = " (never: the run is shorter)" if self.warmup_steps > self.total_steps else ""
        decay = f", x {optim.layer_decay:g} a layer downwards" if optim.layer_decay < 1 else ""
        return (
            f"batch {self.batch_size} = {'; '.join(filter(None, (passes, comparisons)))}\n"
            f"learning rate {self.peak_rate:.3g} = {optim.base_lr:g} x {self.batch_size} / 256, after "
            f"{self.warmup_steps} steps of warm-up{never}{decay}\n"
            f"{self.total_steps} steps = {self.epochs} epochs of {self.steps_per_epoch}"
        )
