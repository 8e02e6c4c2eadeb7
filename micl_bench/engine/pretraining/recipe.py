"""The typed description of a pre-training run, which the files in `pretrain/` fill in."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from micl_bench.backbone import Arch, named_arch
from micl_bench.data.pixels import Pixels
from micl_bench.objectives import ObjectiveConfig, require_declared
from micl_bench.runs.optim import OptimConfig
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runs.run import RunRecipe
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import (
    LARGEST,
    Amount,
    Count,
    Precision,
    Seed,
    Within,
    Workers,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainRecipe(RunRecipe):
    """One complete description of a pre-training run."""

    carried_out: ClassVar[tuple[str, ...]] = (
        *("micro_batch", "parallel", "activation_checkpointing", "compile", "num_workers"),
        # The last step is always followed by a measurement.
        *("save_every_steps", "knn_every_epochs"),
    )

    arch: str
    """Name of an architecture, as `micl-bench list architectures` prints them."""
    objective: ObjectiveConfig
    """The method and its own values: the `Config(...)` of an objective."""
    pixels: Pixels
    optim: OptimConfig
    batch_size: Annotated[int, Within(2, LARGEST)]
    """Images per step over all processes; the learning rate follows from it."""
    epochs: Count
    micro_batch: Amount = 0
    """Images per forward pass on one device; 0 for a device's whole share. It changes memory, not the
    result: the loss is that of the whole batch for any value."""
    precision: Precision = "fp32"
    """`fp32`, or `bf16`: the blocks run in bfloat16, weights, gradients and optimiser state stay in
    fp32, and so do features, similarity and cross-entropy."""
    compile: bool = False
    """Compile the blocks with torch.compile: slower to start, faster on a GPU."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """`ddp`: weights on every device; `fsdp`: sharded over the devices (FSDP2)."""
    activation_checkpointing: bool = False
    """Compute each block's activations again in the backward pass instead of keeping them."""
    knn_every_epochs: Amount = 10
    """Epochs between measurements of k-NN accuracy and of the representation's health on the held-out
    folder; 0 for none."""
    knn_k: Count = 10
    save_every_steps: Count = 50
    seed: Seed = 42
    num_workers: Workers = 0
    """Processes that decode images of a folder; 0 decodes beside the training loop. Packed stores
    need none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_declared(self.objective)
        if not self.pixels.img_size:
            sized = dataclasses.replace(self.pixels, img_size=named_arch(self.arch).img_size)
            object.__setattr__(self, "pixels", sized)
        self.objective.build().require_tokens(self.sized_arch())
        self.objective.build().wants(self.sized_arch())

    def sized_arch(self) -> Arch:
        """The architecture at the recipe's input size."""
        return dataclasses.replace(named_arch(self.arch), img_size=self.pixels.img_size)

    def effective(self) -> dict[str, Any]:
        """All values, those of the objective as it states them for fingerprints."""
        return super().effective() | {"objective": self.objective.build().settings()}

    def plan(self, *, steps_per_epoch: int, processes: int = 1) -> TrainingPlan:
        """The plan of a run.

        Raises:
            InputError: the batch cannot be shared, or the objective refuses the plan.
        """
        plan = TrainingPlan(
            optim=self.optim,
            epochs=self.epochs,
            batch_size=self.batch_size,
            steps_per_epoch=steps_per_epoch,
            processes=processes,
            micro_batch=self.micro_batch,
            save_every_steps=self.save_every_steps,
            check_every_epochs=self.knn_every_epochs,
        )
        objective = self.objective.build()
        if objective.couples_images and 0 < self.micro_batch < plan.share:
            raise InputError(
                f"micro_batch is {self.micro_batch}, and heads of {objective.name} normalise over all "
                f"{plan.share} images of a step on a device, which parts would change; set "
                "micro_batch=0, and activation_checkpointing=true or more devices if memory is short"
            )
        objective.require(plan)
        return plan

    def describe(self, plan: TrainingPlan) -> str:
        """The lines that a person should check before a long run."""
        arch, objective = self.sized_arch(), self.objective.build()
        seen = f"{arch.name} at {arch.img_size} px: {objective.sees(arch)}"
        return f"{seen}\n{plan.describe(objective.comparisons(plan))}"
