"""Logistic regression on frozen features, with all labels or few (DINOv2's and MSN's protocols)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor

from micl_bench.data.file_lists import split_by_class
from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen.features import require_readouts
from micl_bench.engine.frozen.knn import top1
from micl_bench.engine.frozen.logistic import LogisticFit, centred_rows, fit_logistic
from micl_bench.records.result import Result
from micl_bench.runtime.distributed import gather_rows, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress
from micl_bench.runtime.values import (
    Count,
    Fraction,
    Listed,
    NotNegative,
    Positive,
    Precision,
    Seed,
    Values,
    Within,
    Workers,
)
from micl_bench.tasks._frozen import (
    classified,
    feature_details,
    open_labelled,
    readout_words,
    require_one_way,
)
from micl_bench.tasks._request import Request
from micl_bench.tasks.logistic import TASK

DINOV2_GRID = tuple(10 ** (-6 + 11 * step / 44) for step in range(45))
"""DINOv2's `log_regression.py`: 45 values of C from 1e-6 to 1e5, evenly spaced in the exponent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogisticRecipe(Values):
    """Input, labels and regression. Defaults: DINOv2's (Oquab et al. 2023, `log_regression.py`)."""

    pixels: Pixels = Pixels(crop_pct=1.0)
    readout: str = "cls_1"
    """`cls_1`: [CLS] of the last block after the final norm; `avg_1`: the mean of the patches."""
    c: Annotated[tuple[Positive, ...], Listed()] = DINOV2_GRID
    """Inverse strengths of the penalty, as scikit-learn's `C`; the best is chosen where several."""
    held_out: Annotated[float, Within(above=0, below=1)] = 0.1
    """Share of each class's labels on which C is chosen; the last fit has them again."""
    centred_rows: bool = False
    """Take its mean from each feature vector and scale it to length 1, as MSN does."""
    intercept: bool = True
    max_iter: Annotated[int, Within(1, 1_000_000)] = 1000
    tolerance: NotNegative = 1e-12
    """Bound of the largest entry of the mean loss's gradient at which the solver stops."""
    labels: str = ""
    """A list of the training images to use (SimCLR's `1percent.txt`); empty for all."""
    fraction: Fraction = 1.0
    """Share of each class that the seed draws, where no list is given."""
    precision: Precision = "fp32"
    """Precision of the backbone: fp32 or bf16; the regression is fp64."""
    batch_size: Count = 128
    num_workers: Workers = 0
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_way(self.labels, self.fraction)


RECIPE = LogisticRecipe
"""The dataclass that `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """top1 and top5 on `<data>/val` of a regression on the labels of `<data>/train`.

    Processes share the values of C; each fit is one process's, so the result is the same.
    """
    recipe = request.open(LogisticRecipe)
    checkpoint = request.loaded
    require_readouts(checkpoint.arch, [recipe.readout])
    images = open_labelled(
        request.data, labels=recipe.labels, fraction=recipe.fraction, seed=recipe.seed
    )
    # The evaluated images first: one that cannot be decoded is found before the many.
    test = request.features(images.test, beside=images.train)
    train = request.features(images.train)
    prepare = centred_rows if recipe.centred_rows else torch.nn.Identity()
    train_ND, test_MD = (prepare(features.tensor(recipe.readout)) for features in (train, test))
    fitted, c, grid = _regression(
        recipe, train_ND, train.labels_N, len(images.train.classes), request.device
    )
    words = (
        f"logistic regression on frozen {readout_words(recipe.readout, checkpoint)}",
        "C chosen on held-out labels" if grid else f"C = {c:g}",
        images.words,
        f"{recipe.pixels.img_size} px",
    )
    return request.measure(
        TASK,
        protocol=", ".join(filter(None, words)),
        data=images.test.describe(),
        settings={
            **test.settings,
            **_settings(recipe, checkpoint.features or recipe.readout),
            **images.settings,
        },
        evidence=classified(images.test, fitted.logits(test_MD)),
        train=images.train.describe(),
        details={
            **images.details,
            **feature_details(train=train, val=test),
            "grid": grid,
            "c": c,
            "iterations": fitted.iterations,
            "converged": fitted.converged,
        },
    )


def _regression(
    recipe: LogisticRecipe,
    features_ND: Tensor,
    labels_N: Tensor,
    num_classes: int,
    device: torch.device,
) -> tuple[LogisticFit, float, list[dict[str, Any]]]:
    """The last fit, on all labels; its C, the best on held-out labels where there are several, the first
    of equals; and the row of each C."""
    fit = functools.partial(
        fit_logistic,
        num_classes=num_classes,
        intercept=recipe.intercept,
        max_iter=recipe.max_iter,
        tolerance=recipe.tolerance,
        device=device,
    )
    c, grid = recipe.c[0], list[dict[str, Any]]()
    if len(recipe.c) > 1:
        labels, share = labels_N.numpy(), recipe.held_out
        held, kept = map(torch.from_numpy, split_by_class(labels, share, seed=recipe.seed))
        if len(labels_N[kept].unique()) < num_classes:
            raise InputError(
                "a class has one label, none is left to choose C on; give one value: --set c=[4000]"
            )
        fit_kept = functools.partial(fit, features_ND[kept], labels_N[kept])
        grid = _grid(recipe.c, fit_kept, features_ND[held], labels_N[held], device)
        c = max(grid, key=lambda row: row["top1_held_out"])["c"]
    return fit(features_ND, labels_N, c=c), c, grid


def _grid(
    values: tuple[float, ...],
    fit: Callable[..., LogisticFit],
    held_MD: Tensor,
    labels_M: Tensor,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Accuracy on held-out images and the end of the fit, for each C; processes share the values."""
    own = range(rank(), len(values), world_size())
    found_C3 = torch.zeros(len(values), 3, dtype=torch.float64, device=device)
    with Progress("logistic regression", total=len(own), quiet=rank() > 0) as progress:
        for number in own:
            fitted = fit(c=values[number])
            score = top1(fitted.logits(held_MD), labels_M)
            for column, value in enumerate((score, fitted.iterations, fitted.converged)):
                found_C3[number, column] = value
            progress.step(f"C {values[number]:.3g}: held-out top-1 {score:.2f}")
    # Everyone's rows but the own are zeros.
    every = gather_rows(found_C3[None]).sum(dim=0).tolist()
    return [
        {"c": c, "top1_held_out": score, "iterations": int(steps), "converged": bool(ended)}
        for c, (score, steps, ended) in zip(values, every, strict=True)
    ]


def _settings(recipe: LogisticRecipe, readout: str) -> dict[str, Any]:
    return {
        "head": f"multinomial logistic regression, L2, {'' if recipe.intercept else 'no '}intercept",
        "readout": readout,
        "features": "rows centred, length 1" if recipe.centred_rows else "as they are",
        "c": list(recipe.c),
        "selection": "one C"
        if len(recipe.c) == 1
        else f"best of grid on {recipe.held_out:g} of each class's labels, which the last fit has too",
        "solver": f"L-BFGS in fp64, at most {recipe.max_iter} iterations, tolerance "
        f"{recipe.tolerance:g}",
    }
