"""The typed description of fine-tuning, which files in `downstream/` fill in."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from micl_bench.backbone import Pool
from micl_bench.data.pixels import Pixels
from micl_bench.engine.supervised.augment import AugmentConfig
from micl_bench.engine.supervised.mixing import MixConfig
from micl_bench.runs.optim import OptimConfig
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runs.run import RunRecipe
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.values import (
    Amount,
    Count,
    NotNegative,
    Precision,
    Seed,
    Values,
    Within,
    Workers,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedConfig(Values):
    """Length, batch and loss of supervised training."""

    optim: OptimConfig
    epochs: Count
    batch_size: Count
    """Images per step over all processes; the learning rate follows from it."""
    label_smoothing: Annotated[float, Within(least=0, below=1)] = 0.1
    min_lr: NotNegative = 1e-6
    """The learning rate at the cosine's end, before layer-wise scales; MAE's code has 1e-6."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(RunRecipe):
    """Input, training and what the head reads. Defaults: MAE's values for ViT-B, which
    downstream/imagenet_finetune_vit_b16.py gives with their sources."""

    carried_out: ClassVar[tuple[str, ...]] = (
        *("micro_batch", "compile", "num_workers", "save_every_steps", "check_every_epochs"),
    )

    pixels: Pixels = Pixels(crop_scale=(0.08, 1.0), flip=True)
    training: SupervisedConfig = SupervisedConfig(
        optim=OptimConfig(base_lr=5e-4, betas=(0.9, 0.999), warmup_epochs=5, layer_decay=0.65),
        epochs=100,
        batch_size=1024,
    )
    augment: AugmentConfig = AugmentConfig()
    mix: MixConfig = MixConfig()
    pool: Pool = "avg"
    """`avg`: the head reads the normalised mean of the patches, as in MAE; `token`: [CLS], which
    contrastive pre-training trains."""
    head_norm: Literal["fresh", "pretrained"] = "fresh"
    """The start of the norm behind the mean, with `avg`: `fresh`, at weight 1 and bias 0, as in MAE's
    code, or `pretrained`, as the backbone's final norm. [CLS] goes through that norm in any case."""
    drop_path: Annotated[float, Within(least=0, below=1)] = 0.1
    """Probability with which the last block's branches are left out; it grows from 0 with depth."""
    precision: Precision = "fp32"
    """`fp32`, or `bf16`: products in bfloat16, weights, gradients, optimiser and loss in fp32."""
    micro_batch: Amount = 0
    """Images per forward pass on one device; 0 for a device's whole share. It changes memory, not the
    result."""
    compile: bool = False
    """Compile the blocks with torch.compile: slower to start, faster on a GPU."""
    check_every_epochs: Amount = 1
    """Epochs between measurements on the held-out images; 0 for one at the end only."""
    save_every_steps: Count = 500
    num_workers: Workers = 0
    """Processes that decode and augment images; 0 does it beside the training loop."""
    seed: Seed = 0

    @property
    def has_fresh_norm(self) -> bool:
        """True where the norm under the head starts at weight 1 and bias 0."""
        return self.pool == "avg" and self.head_norm == "fresh"

    def effective(self) -> dict[str, Any]:
        """All values; those that have no effect beside the others are as if they had not been set."""
        norm: Literal["fresh", "pretrained"] = "fresh" if self.has_fresh_norm else "pretrained"
        return to_dict(dataclasses.replace(self, mix=self.mix.effective(), head_norm=norm))

    def plan(self, *, steps_per_epoch: int, processes: int = 1) -> TrainingPlan:
        """Sizes of a run."""
        training = self.training
        plan = TrainingPlan(
            optim=training.optim,
            epochs=training.epochs,
            batch_size=training.batch_size,
            steps_per_epoch=steps_per_epoch,
            processes=processes,
            micro_batch=self.micro_batch,
            save_every_steps=self.save_every_steps,
            check_every_epochs=self.check_every_epochs,
            # The held-out images are measured at the end in any case.
            checks_ends=False,
            floor=training.min_lr,
        )
        self.mix.require_groups(batch_size=training.batch_size, processes=processes)
        return plan
