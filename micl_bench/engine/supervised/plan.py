"""What follows from a fine-tuning recipe, the number of images and the number of processes."""

import dataclasses

from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.runs.optim import learning_rate
from micl_bench.runtime.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedPlan:
    """Derived quantities of a run."""

    recipe: FinetuneRecipe
    steps_per_epoch: int
    processes: int = 1

    def __post_init__(self) -> None:
        batch_size = self.recipe.training.batch_size
        if batch_size % self.processes:
            raise InputError(
                f"batch_size {batch_size} cannot be split over {self.processes} processes evenly; "
                "change either"
            )
        self.recipe.mix.require_groups(batch_size=batch_size, processes=self.processes)

    @property
    def share(self) -> int:
        """Images of a step on one device."""
        return self.recipe.training.batch_size // self.processes

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.training.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Steps over which the rate rises."""
        return round(self.recipe.training.optim.warmup_epochs * self.steps_per_epoch)

    @property
    def peak_rate(self) -> float:
        """Largest learning rate, by the linear rule (Goyal et al. 2017)."""
        return self.recipe.training.optim.base_lr * self.recipe.training.batch_size / 256

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0; MAE's schedule, a value a step."""
        return learning_rate(
            step,
            peak=self.peak_rate,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
            floor=self.recipe.training.min_lr,
        )

    def first_image(self, step: int, *, rank: int) -> int:
        """Place of a process's first image of a step among all that the epoch uses, in order."""
        batch = step % self.steps_per_epoch
        return batch * self.recipe.training.batch_size + rank * self.share

    def save_due(self, step: int) -> bool:
        """Whether a state is saved after so many steps."""
        return step % self.recipe.save_every_steps == 0 or step == self.total_steps

    def check_due(self, step: int) -> bool:
        """Whether held-out images are looked at after so many steps; the end has its own look."""
        every = self.recipe.check_every_epochs * self.steps_per_epoch
        return bool(every) and step % every == 0 and 0 < step < self.total_steps

    def describe(self) -> str:
        """What a person should check before a long run."""
        training = self.recipe.training
        forward = min(self.recipe.micro_batch or self.share, self.share)
        return (
            f"batch {training.batch_size} = {self.processes} x {self.share} images, {forward} a "
            f"forward pass\n"
            f"learning rate {self.peak_rate:.3g} = {training.optim.base_lr:g} x "
            f"{training.batch_size} / 256, after {self.warmup_steps} steps of warm-up"
            f"{' (never: the run is shorter)' if self.warmup_steps > self.total_steps else ''}, "
            f"x {training.optim.layer_decay:g} a layer downwards\n"
            f"{self.total_steps} steps = {training.epochs} epochs of {self.steps_per_epoch}"
        )
