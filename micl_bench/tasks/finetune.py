"""Fine-tuning: the whole ViT with a new head; from `random:ARCH` it is training from scratch."""

import dataclasses

from micl_bench.checkpoints import save_checkpoint
from micl_bench.data.folder import open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.engine.features import run_over_folder
from micl_bench.engine.knn import top1
from micl_bench.engine.optim import OptimConfig
from micl_bench.engine.supervised import SupervisedConfig, train_classifier
from micl_bench.errors import InputError
from micl_bench.record import Result
from micl_bench.tasks._request import Request, Session

CLASSIFIER_FILE = "classifier.pt"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """Input, training and what the head reads. Defaults: MAE's values for ViT-B where they apply."""

    pixels: Pixels = Pixels(crop_scale=(0.08, 1.0), flip=True)
    training: SupervisedConfig = SupervisedConfig(
        optim=OptimConfig(
            base_lr=5e-4, betas=(0.9, 0.999), warmup_epochs=5, layer_decay=0.65, clip_norm=0.0
        ),
        epochs=100,
        batch_size=1024,
    )
    pool: str = "token"
    """`token`: the head reads [CLS], which MiCL trains; `avg`: the mean of the patches."""
    drop_path: float = 0.1
    num_workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pool not in ("token", "avg") or not 0 <= self.drop_path < 1:
            raise InputError(
                f"pool {self.pool!r}, drop_path {self.drop_path}; needed: pool token or avg, "
                "0 <= drop_path < 1"
            )


def run(request: Request) -> list[Result]:
    """Train on `<data>/train`, measure top-1 on `<data>/val`, keep the classifier.

    Raises:
        InputError: bad recipe, checkpoint or data, or a loss that is not finite.
    """
    session = Session(request, FinetuneRecipe)
    recipe: FinetuneRecipe = session.recipe
    train = open_folder(request.data / "train")
    test = open_folder(request.data / "val", classes=train.classes)
    model = session.checkpoint.with_new_head(
        num_classes=len(train.classes),
        img_size=recipe.pixels.img_size,
        drop_path=recipe.drop_path,
        pool="avg" if recipe.pool == "avg" else "token",
        seed=recipe.seed,
    ).to(session.device)
    train_classifier(
        model,
        train,
        recipe.pixels,
        recipe.training,
        device=session.device,
        seed=recipe.seed,
        num_workers=recipe.num_workers,
        label="fine-tuning",
    )
    logits_MC, truth_M = run_over_folder(
        lambda images: model(session.checkpoint.normalise(images)),
        test,
        recipe.pixels,
        device=session.device,
        num_workers=recipe.num_workers,
    )
    protocol = (
        f"end to end, {recipe.training.epochs} epochs, head on "
        f"{'[CLS]' if recipe.pool == 'token' else 'patch mean'}, {recipe.pixels.img_size} px"
    )
    result = session.result(
        task="finetune",
        protocol=protocol,
        settings={"protocol": protocol},
        metrics={"top1": top1(logits_MC, truth_M)},
        data=test.describe(),
        artifacts={"classifier": CLASSIFIER_FILE},
    )
    provenance = {"parent": session.checkpoint.info.digest, "command": request.command}
    save_checkpoint(
        request.out / CLASSIFIER_FILE,
        model,
        dataclasses.replace(session.checkpoint.arch, img_size=recipe.pixels.img_size),
        method=result.method,
        provenance={**provenance, "recipe": result.recipe, "classes": list(train.classes)},
    )
    return [result]
