"""The typed description of a pre-training run, which the files in `pretrain/` fill in."""

import dataclasses

from micl_bench.backbone import Arch, named_arch
from micl_bench.data.pixels import Pixels
from micl_bench.engine.optim import OptimConfig
from micl_bench.errors import InputError
from micl_bench.objectives.micl import MiCL
from micl_bench.views import patches_per_view


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainRecipe:
    """One complete description of a pre-training run."""

    arch: str
    """Name of an architecture, as `micl-bench list architectures` prints them."""
    objective: MiCL.Config
    pixels: Pixels
    optim: OptimConfig
    batch_size: int
    """Images a step; negatives are the other images of the same step."""
    epochs: int
    knn_every_epochs: int = 10
    """How often the k-NN accuracy on the held-out folder is measured; 0 for never."""
    knn_k: int = 10
    save_every_steps: int = 50
    seed: int = 42
    num_workers: int = 0
    """Processes that decode images; 0 decodes in the training process."""

    def __post_init__(self) -> None:
        least = min(self.knn_every_epochs, self.num_workers, self.seed)
        positive = min(self.epochs, self.save_every_steps, self.knn_k)
        if self.batch_size < 2 or positive < 1 or least < 0:
            raise InputError(
                f"batch_size {self.batch_size}, epochs {self.epochs}, "
                f"save_every_steps {self.save_every_steps}, knn_k {self.knn_k}, "
                f"knn_every_epochs {self.knn_every_epochs}, num_workers {self.num_workers}, "
                f"seed {self.seed}; needed: batch_size >= 2, the next three >= 1, the rest >= 0"
            )
        patches_per_view(
            self.sized_arch().num_patches,
            num_views=self.objective.num_views,
            mask_ratio=self.objective.mask_ratio,
        )

    def sized_arch(self) -> Arch:
        """The architecture at the recipe's input size."""
        return dataclasses.replace(named_arch(self.arch), img_size=self.pixels.img_size)
