"""Linear probe: a linear classifier on frozen [CLS] features, MAE's batch norm in front."""

import dataclasses

from micl_bench.data.pixels import Pixels
from micl_bench.engine.knn import top1
from micl_bench.engine.probe import ProbeConfig, fit_probe
from micl_bench.record import Result
from micl_bench.tasks._frozen import extract
from micl_bench.tasks._request import Request, Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearRecipe:
    """Input and the classifier's training."""

    pixels: Pixels = Pixels()
    probe: ProbeConfig = ProbeConfig()
    batch_size: int = 128
    """Of the feature extraction."""
    num_workers: int = 0
    seed: int = 0


def run(request: Request) -> list[Result]:
    """Top-1 on `<data>/val` of a classifier fitted on the features of `<data>/train`.

    Raises:
        InputError: bad recipe, checkpoint or data.
    """
    session = Session(request, LinearRecipe)
    recipe: LinearRecipe = session.recipe
    features = extract(
        session, recipe.pixels, batch_size=recipe.batch_size, num_workers=recipe.num_workers
    )
    classify = fit_probe(
        features.train,
        features.train_labels,
        num_classes=len(features.train_folder.classes),
        config=recipe.probe,
        seed=recipe.seed,
    )
    protocol = (
        f"batch norm + linear on frozen [CLS], no augmentation, SGD, {recipe.probe.epochs} epochs, "
        f"{recipe.pixels.img_size} px"
    )
    return [
        session.result(
            task="linear",
            protocol=protocol,
            settings={"protocol": protocol},
            metrics={"top1": top1(classify(features.test), features.test_labels)},
            data=features.test_folder.describe(),
        )
    ]
