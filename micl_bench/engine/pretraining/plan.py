"""What follows from a recipe, the number of images and the number of processes."""

import dataclasses
import functools

from micl_bench.backbone import Arch
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives import Objective
from micl_bench.runs.optim import learning_rate
from micl_bench.runtime.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Derived quantities of a run."""

    recipe: PretrainRecipe
    steps_per_epoch: int
    processes: int = 1

    def __post_init__(self) -> None:
        if self.recipe.batch_size % self.processes:
            raise InputError(
                f"batch_size {self.recipe.batch_size} cannot be split over {self.processes} processes "
                "evenly; change either"
            )
        self.objective.require(self)

    @functools.cached_property
    def objective(self) -> Objective:
        """What is minimised."""
        return self.recipe.objective.build()

    @functools.cached_property
    def arch(self) -> Arch:
        """The backbone at the input's size."""
        return self.recipe.sized_arch()

    @property
    def batch_size(self) -> int:
        """Images of a step over all processes."""
        return self.recipe.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Steps over which the rate rises."""
        return round(self.recipe.optim.warmup_epochs * self.steps_per_epoch)

    @property
    def share(self) -> int:
        """Images of a step on one device."""
        return self.recipe.batch_size // self.processes

    @property
    def peak_rate(self) -> float:
        """Largest learning rate, by the linear rule (Goyal et al. 2017)."""
        return self.recipe.optim.base_lr * self.recipe.batch_size / 256

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return learning_rate(
            step,
            peak=self.peak_rate,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
        )

    def save_due(self, step: int) -> bool:
        """Whether a state is saved after so many steps."""
        return step % self.recipe.save_every_steps == 0 or step == self.total_steps

    def check_due(self, step: int) -> bool:
        """Whether held-out images are looked at after so many steps."""
        every = self.recipe.knn_every_epochs * self.steps_per_epoch
        return bool(every) and (step % every == 0 or step == self.total_steps)

    def describe(self) -> str:
        """What a person should check before a long run."""
        recipe, arch = self.recipe, self.arch
        comparisons = self.objective.comparisons(self)
        forward = min(recipe.micro_batch or self.share, self.share)
        return (
            f"{arch.name} at {arch.img_size} px: {self.objective.wants(arch)}\n"
            f"batch {recipe.batch_size} = {self.processes} x {self.share} images, {forward} a forward "
            f"pass{'; ' if comparisons else ''}{comparisons}\n"
            f"learning rate {self.peak_rate:.3g} = {recipe.optim.base_lr:g} x {recipe.batch_size} / "
            f"256, after {self.warmup_steps} steps of warm-up"
            f"{' (never: the run is shorter)' if self.warmup_steps > self.total_steps else ''}\n"
            f"{self.total_steps} steps = {recipe.epochs} epochs of {self.steps_per_epoch}"
        )
