"""k-NN: weighted nearest neighbours on frozen [CLS] features (Caron et al. 2021)."""

import dataclasses

from micl_bench.data.pixels import Pixels
from micl_bench.engine.knn import knn_scores, top1
from micl_bench.record import Result
from micl_bench.tasks._frozen import extract
from micl_bench.tasks._request import Request, Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnnRecipe:
    """Neighbours and input."""

    pixels: Pixels = Pixels()
    k: int = 20
    temperature: float = 0.07
    batch_size: int = 128
    num_workers: int = 0
    seed: int = 0


def run(request: Request) -> list[Result]:
    """Top-1 on `<data>/val` with the features of `<data>/train`.

    Raises:
        InputError: bad recipe, checkpoint or data.
    """
    session = Session(request, KnnRecipe)
    recipe: KnnRecipe = session.recipe
    features = extract(
        session, recipe.pixels, batch_size=recipe.batch_size, num_workers=recipe.num_workers
    )
    scores_MC = knn_scores(
        features.train,
        features.train_labels,
        features.test,
        k=recipe.k,
        temperature=recipe.temperature,
    )
    protocol = (
        f"{recipe.k}-NN, cosine, T = {recipe.temperature}, [CLS], {recipe.pixels.img_size} px"
    )
    return [
        session.result(
            task="knn",
            protocol=protocol,
            settings={"protocol": protocol},
            metrics={"top1": top1(scores_MC, features.test_labels)},
            data=features.test_folder.describe(),
        )
    ]
