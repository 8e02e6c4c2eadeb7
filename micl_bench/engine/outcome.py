"""What a finished pre-training run leaves: the backbone, and the record of how it was made."""

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from micl_bench.checkpoints import save_checkpoint
from micl_bench.config import to_dict
from micl_bench.data.source import Source
from micl_bench.engine.plan import Plan
from micl_bench.files import digest_json
from micl_bench.provenance import Measurement
from micl_bench.record import CheckpointInfo, visible_path, write_result

METHOD = "MiCL"
BACKBONE_FILE = "backbone.pt"


@dataclasses.dataclass(frozen=True)
class Spent:
    """Time of a run, all its parts together, in seconds; what a kill undid is not in it."""

    seconds: float = 0.0
    training: float = 0.0
    """Without checks and saves."""
    device_seconds: float = 0.0
    """Seconds times the devices that were in use, which may have changed in between."""

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            seconds=self.seconds + other.seconds,
            training=self.training + other.training,
            device_seconds=self.device_seconds + other.device_seconds,
        )


def finished_record(out: Path) -> Path | None:
    """The record of a run that came to its end in this folder."""
    records = sorted(out.glob("pretrain-*.json"))
    return records[-1] if records and (out / BACKBONE_FILE).exists() else None


def write_outcome(
    out: Path,
    *,
    plan: Plan,
    weights: dict[str, Tensor],
    train: Source,
    loss: float,
    rows: list[dict[str, Any]],
    measurement: Measurement,
    spent: Spent,
) -> Path:
    """Write `backbone.pt` and the record, whose path is returned.

    Args:
        weights: of the ViT.
        loss: of the last step.
        rows: all of the run's metrics.
    """
    recipe, arch = to_dict(plan.recipe), plan.recipe.sized_arch()
    vit = arch.build()
    vit.load_state_dict(weights)
    path = out / BACKBONE_FILE
    provenance = {
        "recipe": recipe,
        "recipe_digest": digest_json(recipe),
        "command": measurement.command,
        "steps": plan.total_steps,
        "train_digest": train.digest,
    }
    file_digest = save_checkpoint(path, vit, arch, method=METHOD, provenance=provenance)
    data = train.describe()
    result = measurement.result(
        task="pretrain",
        protocol=f"{plan.recipe.epochs} epochs of {data.name}, mask ratio "
        f"{plan.recipe.objective.mask_ratio}, batch {plan.recipe.batch_size}",
        method=METHOD,
        arch=arch.name,
        metrics=_metrics(loss, rows, plan, spent),
        data=data,
        checkpoint=CheckpointInfo(
            source=visible_path(path), format="micl_bench", digest=file_digest
        ),
        recipe=recipe,
        seed=plan.recipe.seed,
        settings={
            "task": "pretrain",
            **{
                key: value for key, value in plan.recipe.what_is_computed().items() if key != "seed"
            },
        },
        artifacts={"metrics": "metrics.jsonl", "views": "views.npz"},
        seconds=spent.seconds,
        device_seconds=spent.device_seconds,
    )
    return write_result(result, out)


def _metrics(loss: float, rows: list[dict[str, Any]], plan: Plan, spent: Spent) -> dict[str, float]:
    images = plan.total_steps * plan.recipe.batch_size
    measured = {
        "loss": loss,
        "images_per_second": images / spent.training,
    }
    if checks := [row["knn_top1"] for row in rows if "knn_top1" in row]:
        measured["knn_top1"] = checks[-1]
    return measured
