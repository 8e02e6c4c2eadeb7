"""What a task is asked for."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from micl_bench.checkpoints import Checkpoint, Statement


@dataclasses.dataclass(kw_only=True)
class Asked:
    """One evaluation that is asked for, by `micl-bench eval` or in Python."""

    checkpoint: "str | Checkpoint"
    """A file, `timm:NAME`, `public:NAME` or `random:ARCH`; or what was made of a module in memory."""
    arch: str | None = None
    """Architecture, where the file's shapes do not tell it."""
    layout: str | None = None
    """Checkpoint format, where the keys fit several."""
    branch: str | None = None
    """Which of several networks in the file."""
    pixels: str | None = None
    """Mean and std of the pixels, where the file does not state them; as `load_checkpoint` has it."""
    strict: bool = False
    """Refuse a checkpoint of which anything would be assumed."""
    data: Path
    out: Path
    recipe: Path | None
    """None for the task's own defaults."""
    overrides: tuple[str, ...]
    method: str
    """Row name in tables; empty for what the checkpoint says."""
    command: str
    statement: "Statement | None" = None
    """Which pre-training the weights are of, where the user states it."""
    device: "torch.device | None" = None
    """Of this process, as `distributed.process_group` gives it; None for the CPU."""
