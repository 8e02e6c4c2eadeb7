"""The backbone that a finished pre-training run leaves, and the record of how it was made."""

from pathlib import Path
from typing import Any

from torch import Tensor

from micl_bench.checkpoints import Checkpoint, save_checkpoint
from micl_bench.data.source import Source
from micl_bench.engine.pretraining import TASK
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.warm_start import as_start
from micl_bench.records.provenance import Subject
from micl_bench.records.result import visible_path, write_result
from micl_bench.records.weights import CheckpointInfo, Stage
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runs.run import Run
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.files import digest_json


def finished_record(out: Path) -> Path | None:
    """The path of the record of a run that came to its end in this folder; None without one."""
    records = sorted(out.glob("pretrain-*.json"))
    return records[-1] if records and (out / TASK.leaves).exists() else None


def write_outcome(
    run: Run,
    recipe: PretrainRecipe,
    plan: TrainingPlan,
    *,
    weights: dict[str, Tensor],
    train: Source,
    loss: float,
    rows: list[dict[str, Any]],
    memory: tuple[float, str],
    name: str = "",
    start: Checkpoint | None = None,
    began_with: str = "",
) -> Path:
    """Write `backbone.pt` and the record into the run's folder; returns the record's path.

    Args:
        weights: of the ViT.
        loss: of the last step.
        rows: all of the run's metrics.
        memory: peak in MiB, and the words that say which memory it is.
        name, start: as `Pretrainer` has them.
        began_with: the words on the parts of `start` that were taken, as `begin_own_with` returns them.
    """
    values, arch, objective = to_dict(recipe), recipe.sized_arch(), recipe.objective.build()
    start, method, path = start and as_start(start), name or objective.name, run.out / TASK.leaves
    data, settings = train.describe(), run_settings(recipe, start)
    stage = Stage.of(
        TASK.name,
        objective.name,
        settings,
        seed=recipe.seed,
        epochs=recipe.epochs,
        data=data.name,
        data_digest=data.digest,
    )
    vit = arch.build()
    vit.load_state_dict(weights)
    provenance = {
        "recipe": values,
        "recipe_digest": digest_json(values),
        "command": run.measurement.command,
        "steps": plan.total_steps,
        "train_digest": train.digest,
    }
    file_digest = save_checkpoint(
        path, vit, arch, method=method, provenance=provenance, stage=stage, start=start
    )
    protocol = (
        f"{recipe.epochs} epochs of {data.name}",
        objective.summary(),
        f"batch {plan.batch_size}",
        f"from {start.method}" if start else "",
    )
    subject = Subject(
        method=method,
        arch=arch.name,
        checkpoint=CheckpointInfo(
            source=visible_path(path),
            format="micl_bench",
            digest=file_digest,
            origin=(*(start.content.origin if start else ()), stage),
        ),
        recipe=values,
        seed=recipe.seed,
    )
    speed = plan.total_steps * plan.batch_size / run.spent.training
    result = run.measurement.result(
        TASK,
        subject,
        _metrics(loss, rows, speed) | {"peak_memory_mib": round(memory[0], 1)},
        settings=settings,
        protocol=", ".join(filter(None, protocol)),
        data=data,
        details={"peak_memory": memory[1]}
        | ({"init": began_with} if began_with else {})
        | ({"deviations": list(objective.deviations)} if objective.deviations else {}),
        artifacts={"metrics": "metrics.jsonl", "views": "views.npz"},
        device_seconds=run.spent.device_seconds,
    )
    return write_result(result, run.out)


def run_settings(recipe: PretrainRecipe, start: Checkpoint | None = None) -> dict[str, Any]:
    """All settings that the weights depend on but the seed, for the run's fingerprint; `start` is as
    `as_start` makes it."""
    computed = recipe.what_is_computed()
    settings = {"task": TASK.name, **{key: computed[key] for key in computed if key != "seed"}}
    # Without the seeds of those trainings, too.
    earlier = {"init": [one.fingerprint for one in start.content.origin]} if start else {}
    return settings | earlier


def _metrics(loss: float, rows: list[dict[str, Any]], speed: float) -> dict[str, float]:
    measured = {"loss": loss, "images_per_second": speed}
    if speeds := [row for row in rows if row.get("images_per_second") and "mfu" in row]:
        # The cost of an image in shares of the machine's peak, as it was measured last.
        share = speeds[-1]["mfu"] / speeds[-1]["images_per_second"]
        measured["mfu"] = 100 * share * speed
    if checks := [row["knn_top1"] for row in rows if "knn_top1" in row]:
        measured["knn_top1"] = checks[-1]
    return measured
