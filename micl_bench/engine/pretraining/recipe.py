"""The typed description of a pre-training run, which the files in `pretrain/` fill in."""

import dataclasses
import json
from typing import Annotated, Any, Literal

from micl_bench.backbone import Arch, named_arch
from micl_bench.data.pixels import Pixels
from micl_bench.objectives import ObjectiveConfig
from micl_bench.runs.optim import OptimConfig
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.values import (
    LARGEST,
    Amount,
    Count,
    Precision,
    Seed,
    Values,
    Within,
    Workers,
)

# How a run is carried out, not what it computes: these may change when it goes on.
_CARRIED_OUT = (
    "micro_batch",
    "parallel",
    "activation_checkpointing",
    "compile",
    "num_workers",
    "save_every_steps",
    # The last step is always followed by a measurement.
    "knn_every_epochs",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainRecipe(Values):
    """One complete description of a pre-training run."""

    arch: str
    """Name of an architecture, as `micl-bench list architectures` prints them."""
    objective: ObjectiveConfig
    """Which method, and its own values: `MiCL.Config(...)` or another objective's."""
    pixels: Pixels
    optim: OptimConfig
    batch_size: Annotated[int, Within(2, LARGEST)]
    """Images a step over all processes; the learning rate follows from it."""
    epochs: Count
    micro_batch: Amount = 0
    """Images a forward pass on one device; 0 for a device's whole share. Changes memory, not the
    result: the loss is that of the whole batch whatever its value."""
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
    """How often k-NN accuracy and the health of the representation are measured on the held-out
    folder; 0 for never."""
    knn_k: Count = 10
    save_every_steps: Count = 50
    seed: Seed = 42
    num_workers: Workers = 0
    """Processes that decode images of a folder; 0 decodes beside the training loop. Packed stores
    need none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pixels.img_size:
            sized = dataclasses.replace(self.pixels, img_size=named_arch(self.arch).img_size)
            object.__setattr__(self, "pixels", sized)
        self.objective.build().wants(self.sized_arch())

    def sized_arch(self) -> Arch:
        """The architecture at the recipe's input size."""
        return dataclasses.replace(named_arch(self.arch), img_size=self.pixels.img_size)

    @staticmethod
    def computes(key: str) -> bool:
        """Whether the result depends on a value; the others may change when a run goes on."""
        return key not in _CARRIED_OUT

    def what_is_computed(self) -> dict[str, Any]:
        """All values that the result depends on, as JSON gives them back."""
        settings = self.objective.build().settings()
        values = json.loads(json.dumps(to_dict(self) | {"objective": settings}))
        return {key: value for key, value in values.items() if self.computes(key)}
