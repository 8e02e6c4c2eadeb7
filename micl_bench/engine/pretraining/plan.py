"""What follows from a pre-training recipe, the number of images and the number of processes."""

import dataclasses
import functools

from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives import Objective
from micl_bench.runs.plan import TrainingPlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainPlan(TrainingPlan):
    """Derived quantities of a run."""

    recipe: PretrainRecipe

    @classmethod
    def of(
        cls, recipe: PretrainRecipe, *, steps_per_epoch: int, processes: int = 1
    ) -> "PretrainPlan":
        """The plan of a recipe.

        Raises:
            InputError: a batch that the processes do not divide, or that is too small for the objective.
        """
        return cls(
            recipe=recipe,
            optim=recipe.optim,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            steps_per_epoch=steps_per_epoch,
            processes=processes,
            micro_batch=recipe.micro_batch,
            save_every_steps=recipe.save_every_steps,
            check_every_epochs=recipe.knn_every_epochs,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.objective.require(self)

    @functools.cached_property
    def objective(self) -> Objective:
        """What is minimised."""
        return self.recipe.objective.build()

    def comparisons(self) -> str:
        """As the objective has it."""
        return self.objective.comparisons(self)

    def describe(self) -> str:
        """What a person should check before a long run."""
        arch = self.recipe.sized_arch()
        return (
            f"{arch.name} at {arch.img_size} px: {self.objective.wants(arch)}\n{super().describe()}"
        )
