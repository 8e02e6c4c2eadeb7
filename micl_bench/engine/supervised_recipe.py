"""The typed description of fine-tuning, which files in `downstream/` fill in."""

import dataclasses
import json
from typing import Any

from micl_bench.config import to_dict
from micl_bench.data.pixels import Pixels
from micl_bench.engine.augment import AugmentConfig
from micl_bench.engine.mixing import MixConfig
from micl_bench.engine.optim import OptimConfig
from micl_bench.errors import InputError

# How a run is carried out, not what it computes: these may change when it goes on.
_CARRIED_OUT = (
    "micro_batch",
    "compile",
    "num_workers",
    "save_every_steps",
    "check_every_epochs",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """Length, batch and loss of supervised training."""

    optim: OptimConfig
    epochs: int
    batch_size: int
    """Images a step over all processes; the learning rate follows from it."""
    label_smoothing: float = 0.1
    min_lr: float = 1e-6
    """Where the cosine ends, before layer-wise scales; MAE's code has 1e-6."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"epochs {self.epochs}, batch_size {self.batch_size}, label_smoothing "
                f"{self.label_smoothing}; needed: epochs, batch_size >= 1, 0 <= label_smoothing < 1"
            )
        if not 0 <= self.min_lr < float("inf"):
            raise InputError(f"min_lr is {self.min_lr}; it must be at least 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """Input, training and what the head reads. Defaults: MAE's values for ViT-B, which
    downstream/imagenet_finetune_vit_b16.py gives with their sources."""

    pixels: Pixels = Pixels(crop_scale=(0.08, 1.0), flip=True)
    training: SupervisedConfig = SupervisedConfig(
        optim=OptimConfig(base_lr=5e-4, betas=(0.9, 0.999), warmup_epochs=5, layer_decay=0.65),
        epochs=100,
        batch_size=1024,
    )
    augment: AugmentConfig = AugmentConfig()
    mix: MixConfig = MixConfig()
    pool: str = "avg"
    """`avg`: the head reads the normalised mean of the patches, as in MAE; `token`: [CLS], which is
    what MiCL's loss trains."""
    head_norm: str = "fresh"
    """With `avg`, how the norm behind the mean starts: `fresh`, at weight 1 and bias 0, as in MAE's
    code, or `pretrained`, as the backbone's final norm. [CLS] goes through that norm in any case."""
    drop_path: float = 0.1
    """Probability with which the last block's branches are left out; it grows from 0 with depth."""
    precision: str = "fp32"
    """`fp32`, or `bf16`: products in bfloat16, weights, gradients, optimiser and loss in fp32."""
    micro_batch: int = 0
    """Images a forward pass on one device; 0 for a device's whole share. Changes memory, not the
    result."""
    compile: bool = False
    """Compile the blocks with torch.compile: slower to start, faster on a GPU."""
    check_every_epochs: int = 1
    """How often accuracy on the held-out images is measured on the way; 0 for at the end only."""
    save_every_steps: int = 500
    num_workers: int = 0
    """Processes that decode and augment images; 0 does it beside the training loop."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pool not in ("token", "avg") or not 0 <= self.drop_path < 1:
            raise InputError(
                f"pool {self.pool!r}, drop_path {self.drop_path}; needed: pool token or avg, "
                "0 <= drop_path < 1"
            )
        if self.head_norm not in ("fresh", "pretrained"):
            raise InputError(f"head_norm is {self.head_norm!r}; allowed: fresh, pretrained")
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"precision is {self.precision!r}; allowed: fp32, bf16")
        least = min(self.micro_batch, self.check_every_epochs, self.num_workers, self.seed)
        if least < 0 or self.save_every_steps < 1 or self.seed >= 1 << 63:
            raise InputError(
                f"micro_batch {self.micro_batch}, check_every_epochs {self.check_every_epochs}, "
                f"num_workers {self.num_workers}, seed {self.seed}, save_every_steps "
                f"{self.save_every_steps}; needed: at least 0, seed below 2^63, save_every_steps >= 1"
            )

    @property
    def has_fresh_norm(self) -> bool:
        """Whether the norm under the head starts at weight 1 and bias 0."""
        return self.pool == "avg" and self.head_norm == "fresh"

    @staticmethod
    def computes(key: str) -> bool:
        """Whether the result depends on a value; the others may change when a run goes on."""
        return key not in _CARRIED_OUT

    def what_is_computed(self) -> dict[str, Any]:
        """All values that the result depends on, as JSON gives them back; those that have no effect
        beside the others are as if they had not been set."""
        norm = "fresh" if self.has_fresh_norm else "pretrained"
        plain = dataclasses.replace(self, mix=self.mix.effective(), head_norm=norm)
        values = json.loads(json.dumps(to_dict(plain)))
        return {key: value for key, value in values.items() if self.computes(key)}
