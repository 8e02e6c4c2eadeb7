"""Fine-tuning: the whole ViT with a new head; from `random:ARCH` it is training from scratch."""

import dataclasses
from typing import Any

from micl_bench.checkpoints import Checkpoint, save_checkpoint
from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.engine.supervised.trainer import Start, SupervisedTrainer
from micl_bench.records.result import Result
from micl_bench.runtime.distributed import rank
from micl_bench.runtime.errors import InputError
from micl_bench.tasks._classified import classified
from micl_bench.tasks._few_labels import open_folders
from micl_bench.tasks._request import Request
from micl_bench.tasks.finetune import TASK

RECIPE = FinetuneRecipe
"""What `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """Train on `<data>/train`, measure accuracy on `<data>/val`, keep the classifier.

    Raises:
        InputError: bad recipe, checkpoint or data, or a loss that is not finite.
        Stopped: a signal asked for it; the same command goes on.
    """
    session = request.open(FinetuneRecipe)
    recipe = session.recipe
    session.checkpoint.require_vit(TASK.name)
    train, held_out = open_folders(request.data)
    trainer = SupervisedTrainer(
        recipe,
        _start(session.checkpoint, recipe, num_classes=len(train.classes)),
        train=train,
        held_out=held_out,
        out=request.out,
        device=session.device,
        measurement=session.measurement,
    )
    logits_MC = trainer.run()
    spent = trainer.spent
    (result,) = session.measure(
        TASK,
        protocol=_protocol(recipe),
        settings=_settings(recipe, trainer.precision_seen),
        evidence=classified(held_out, logits_MC),
        data=held_out.describe(),
        train=train.describe(),
        details=_details(trainer),
        artifacts={"classifier": TASK.leaves, "metrics": "metrics.jsonl"},
        seconds=spent.seconds,
        device_seconds=spent.device_seconds,
    )
    if rank() == 0:
        provenance = {
            "task": TASK.name,
            "protocol": result.protocol,
            # The kind alone: how long each method is fine-tuned is its own affair, and in its record.
            "classifier": f"fine-tuned, head on {_head(recipe)}",
            "parent": session.checkpoint.info.digest,
            "command": request.command,
        }
        save_checkpoint(
            request.out / TASK.leaves,
            trainer.model,
            dataclasses.replace(session.checkpoint.arch, img_size=recipe.pixels.img_size),
            method=result.method,
            provenance={**provenance, "recipe": result.recipe, "classes": list(train.classes)},
            stage=result.as_stage(epochs=recipe.training.epochs),
            start=session.checkpoint,
        )
    return [result]


def _start(checkpoint: Checkpoint, recipe: FinetuneRecipe, *, num_classes: int) -> Start:
    if recipe.pool == "token" and not checkpoint.arch.class_token:
        raise InputError(f"{checkpoint.info.source} has no [CLS] for a head to read; set pool=avg")
    return Start(
        model=checkpoint.with_new_head(
            num_classes=num_classes,
            img_size=recipe.pixels.img_size,
            drop_path=recipe.drop_path,
            pool="avg" if recipe.pool == "avg" else "token",
            seed=recipe.seed,
            fresh_norm=recipe.has_fresh_norm,
        ),
        normalise=checkpoint.normalise,
        mean=checkpoint.content.mean,
        digest=checkpoint.info.digest,
    )


def _protocol(recipe: FinetuneRecipe) -> str:
    return (
        f"end to end, {recipe.training.epochs} epochs, head on {_head(recipe)}, "
        f"{recipe.pixels.img_size} px"
    )


def _head(recipe: FinetuneRecipe) -> str:
    return "[CLS]" if recipe.pool == "token" else "patch mean"


def _settings(recipe: FinetuneRecipe, precision_seen: str) -> dict[str, Any]:
    """Of training: all of the recipe that the result depends on but its seed; how a crop is taken."""
    computed = {key: value for key, value in recipe.what_is_computed().items() if key != "seed"}
    pixels, mix = computed.pop("pixels"), computed.pop("mix")
    norm = {
        "fresh": "a norm at weight 1, bias 0",
        "pretrained": "the pre-trained final norm",
    }[computed["head_norm"]]
    return computed | {
        "mix": {**mix, "pairs": "a group's image i with its i-th from the end"}
        if recipe.mix.mixes
        else "none",
        "precision": precision_seen,
        "crop_scale": pixels["crop_scale"],
        "flip": pixels["flip"],
        "crop": "as in evaluation"
        if recipe.pixels.crop_scale == (1.0, 1.0)
        else "RandomResizedCrop, bicubic, Pillow on 8 bits",
        "head": f"linear, weights from a normal of deviation 2e-5, on {norm}",
    }


def _details(trainer: SupervisedTrainer) -> dict[str, Any]:
    plan = trainer.plan
    return {
        "steps": plan.total_steps,
        "peak_learning_rate": plan.peak_rate,
        "processes": plan.processes,
        "final_loss": trainer.loss,
        "images_per_second": round(trainer.images_per_second, 3),
    }
