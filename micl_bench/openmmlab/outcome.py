"""What a run of a config gives."""

import dataclasses
from pathlib import Path
from typing import Any

from micl_bench.records.result import CheckpointInfo
from micl_bench.runs.run import Spent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run measured, and what it needs to be traced."""

    metrics: dict[str, float]
    """Percentages: `mIoU`, `mAcc`, `aAcc`, or `box_AP`, `mask_AP` and both at IoU 0.5 and 0.75."""
    intervals: dict[str, list[float]]
    """Ends of the 95 % interval of each metric, over images."""
    arch: str
    method: str
    checkpoint: CheckpointInfo
    config: dict[str, Any]
    """The config as it ran, overrides applied, as plain values; the same for every `work_dir`."""
    settings: dict[str, Any]
    """What moves the number: the part of the config that does, images of a step, precision."""
    images: int
    """Evaluated images."""
    train_images: int
    """Images that were trained on."""
    classes: tuple[str, ...]
    seed: int
    steps: int
    """Updates of the weights."""
    summary: str
    """How long it trained, for a table's caption: `240 steps of 8 images`."""
    precision: str
    """The ViT was trained in: `fp32`, `tf32`, `bf16`, `fp16`, several joined by `+`."""
    batch: int
    """Images of a step, over all processes and accumulated passes."""
    images_a_pass: int
    """Of one process, in one pass."""
    processes: int
    data_digests: dict[str, str]
    """By `train_dataloader` and `val_dataloader`: `data_digests.data_digests`."""
    left_out: dict[str, str]
    """By `train_dataloader` and `val_dataloader`: a line on what lies there and was not read."""
    truth: dict[str, float]
    """The metrics that the truth has when it is evaluated against itself: no model can have more."""
    spent: Spent
    """Time, of all parts of a run that was cut."""
    predictions: Path
    """`.npz` of the first images with truth and predictions; the first process writes it."""
    evidence_kind: str
    """What a record calls what was measured of each image."""
    evidence: Path
    """`.npz` with what was measured of each image; the first process writes it."""
    log: Path
    """Everything the libraries printed."""
    model: Path | None
    """The trained model, read weights-only, where the config asks for checkpoints."""
