"""What follows from a fine-tuning recipe, the number of images and the number of processes."""

import dataclasses

from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.runs.plan import TrainingPlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedPlan(TrainingPlan):
    """Derived quantities of a run."""

    @classmethod
    def of(
        cls, recipe: FinetuneRecipe, *, steps_per_epoch: int, processes: int = 1
    ) -> "SupervisedPlan":
        """The plan of a recipe.

        Raises:
            InputError: a batch that the processes do not divide, or not into groups that are mixed.
        """
        training = recipe.training
        plan = cls(
            optim=training.optim,
            epochs=training.epochs,
            batch_size=training.batch_size,
            steps_per_epoch=steps_per_epoch,
            processes=processes,
            micro_batch=recipe.micro_batch,
            save_every_steps=recipe.save_every_steps,
            check_every_epochs=recipe.check_every_epochs,
            floor=training.min_lr,
        )
        recipe.mix.require_groups(batch_size=training.batch_size, processes=processes)
        return plan

    def first_image(self, step: int, *, rank: int) -> int:
        """Place of a process's first image of a step among all that the epoch uses, in order."""
        return step % self.steps_per_epoch * self.batch_size + rank * self.share

    def check_due(self, step: int) -> bool:
        """Whether held-out images are looked at after so many steps; the end has its own look."""
        return super().check_due(step) and 0 < step < self.total_steps
