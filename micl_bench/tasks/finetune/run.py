"""Fine-tuning: the whole ViT with a new head; from `random:ARCH` it is training from scratch."""

from typing import Any

from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.engine.supervised.trainer import SupervisedTrainer
from micl_bench.records.result import Result
from micl_bench.tasks._frozen import classified, open_folders
from micl_bench.tasks._request import Request
from micl_bench.tasks.finetune import TASK

RECIPE = FinetuneRecipe
"""The dataclass that `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """Train on `<data>/train`, measure accuracy on `<data>/val`, keep the classifier."""
    recipe = request.open(FinetuneRecipe)
    checkpoint = request.loaded
    checkpoint.require_vit(TASK.name)
    train, held_out = open_folders(request.data)
    trainer = SupervisedTrainer(
        recipe,
        checkpoint,
        train=train,
        held_out=held_out,
        out=request.out,
        device=request.device,
        measurement=request.measurement,
    )
    logits_MC = trainer.run()
    size, spent = recipe.pixels.img_size, trainer.trained.spent
    (result,) = request.measure(
        TASK,
        protocol=f"end to end, {recipe.training.epochs} epochs, head on {_head(recipe)}, {size} px",
        settings=training_settings(recipe, trainer.precision_seen),
        evidence=classified(held_out, logits_MC),
        data=held_out.describe(),
        train=train.describe(),
        details=trainer.details(),
        artifacts={"classifier": TASK.leaves, "metrics": "metrics.jsonl"},
        seconds=spent.seconds,
        device_seconds=spent.device_seconds,
    )
    request.keep_classifier(
        TASK,
        result,
        trainer.model,
        # The kind alone: the length of fine-tuning is in its record.
        made=f"fine-tuned, head on {_head(recipe)}",
        classes=train.classes,
        epochs=recipe.training.epochs,
    )
    return [result]


def _head(recipe: FinetuneRecipe) -> str:
    return "[CLS]" if recipe.pool == "token" else "patch mean"


def training_settings(recipe: FinetuneRecipe, precision_seen: str) -> dict[str, Any]:
    """The settings of training: the recipe without its seed, and words on crop, mixing and head."""
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
