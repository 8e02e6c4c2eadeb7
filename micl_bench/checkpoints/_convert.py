"""What every layout converts to."""

import dataclasses

from torch import Tensor

from micl_bench.backbone import Arch, Pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
    """Tensors under timm's names, and the sizes they need."""

    arch: Arch
    state: dict[str, Tensor]
    method: str
    pool: Pool
    num_classes: int
    """0 where the file holds no head."""
    classes: tuple[str, ...] = ()
    """Names in the order of the head's outputs; empty where the file does not tell."""
