"""k-NN: weighted nearest neighbours on frozen features (Wu et al. 2018; Caron et al. 2021)."""

import dataclasses
from typing import Annotated, Literal

import torch
from torch import Tensor

from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.engine.frozen.knn import ranks_of
from micl_bench.engine.frozen.neighbours import Neighbours, nearest_keys, require_memory
from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import Result
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say
from micl_bench.runtime.values import Count, Listed, Positive, Precision, Seed, Values, Workers
from micl_bench.tasks._frozen import feature_details, open_splits
from micl_bench.tasks._request import Request
from micl_bench.tasks.knn import TASK

_READOUTS = {"cls": "cls_1", "avg": "avg_1"}
_NAMES = {"cls": "[CLS]", "avg": "mean patch"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnnRecipe(Values):
    """Neighbours and input. Defaults: Caron et al. 2021, who report k = 20 as the best of `ks`."""

    pixels: Pixels = Pixels()
    k: Count = 20
    """k of the metrics `top1` and `top5`; chosen beforehand, not as the best on the evaluated images."""
    temperature: Positive = 0.07
    ks: Annotated[tuple[Count, ...], Listed(0, once=True)] = (10, 20, 100, 200)
    """Each k of the metrics `top1_k10`, ...; those above the number of training images are left out."""
    pool: Literal["cls", "avg"] = "cls"
    """`cls`: [CLS] after the final norm; `avg`: the mean of the patches after it."""
    precision: Precision = "fp32"
    """Precision of the backbone: fp32 or bf16; similarities are always fp32."""
    batch_size: Count = 128
    """Images that are read at a time; moves no number."""
    num_workers: Workers = 0
    memory_mib: Count = 2048
    """Memory of each process for the search, in MiB; moves no number."""
    seed: Seed = 0


RECIPE = KnnRecipe
"""The dataclass that `--recipe` and `--set` are read as."""


def run(request: Request) -> list[Result]:
    """top1, top5, and top1 for several k, on `<data>/val` with the features of `<data>/train`."""
    recipe = request.open(KnnRecipe)
    arch = request.loaded.arch
    if recipe.pool == "cls" and not arch.class_token:
        raise InputError(f"{arch.name} has no [CLS]; use --set pool=avg")
    train, test = open_splits(request.data)
    if recipe.k > len(train):
        raise InputError(f"k is {recipe.k}; it must be from 1 to the {len(train)} training images")
    ks = tuple(k for k in recipe.ks if k <= len(train))
    if left_out := [str(k) for k in recipe.ks if k not in ks]:
        say(f"k = {', '.join(left_out)} left out: there are {len(train)} training images")
    k, budget = max((recipe.k, *ks)), recipe.memory_mib
    require_memory(len(train), len(test), k=k, width=arch.width, memory_mib=budget)
    # The evaluated images first: one that cannot be decoded is found before the many.
    val = request.features(test, beside=train)
    stored = request.features(train)
    keys_ND, queries_MD = (part.tensor(_READOUTS[recipe.pool]) for part in (stored, val))
    neighbours = nearest_keys(
        keys_ND, queries_MD, k=k, device=request.device, memory_mib=budget, label="k-NN"
    )
    name = request.loaded.features or _NAMES[recipe.pool]
    return request.measure(
        TASK,
        protocol=f"{recipe.k}-NN, cosine, T = {recipe.temperature}, {name}, "
        f"{recipe.pixels.img_size} px",
        settings={
            "pool": name,
            "k": recipe.k,
            "temperature": recipe.temperature,
            "similarity": "cosine, fp32",
            "votes": "exp(cosine / temperature); of equal keys the earlier, of equal classes the first",
            "top5": "a class without a vote does not count",
            **val.settings,
        },
        evidence=_predictions(recipe, ks, neighbours, train, test),
        data=test.describe(),
        train=train.describe(),
        details=feature_details(train=stored, val=val),
    )


def _predictions(
    recipe: KnnRecipe, ks: tuple[int, ...], neighbours: Neighbours, train: Source, test: Source
) -> Predictions:
    labels_N, truth_M = (torch.from_numpy(source.labels_N) for source in (train, test))
    classes = len(train.classes)
    predicted, correct = {}, {}

    def note(metric: str, predicted_M: Tensor, right_M: Tensor) -> None:
        # Among five classes every label is right.
        if metric != "top5":
            predicted[metric] = predicted_M.numpy()
        correct[metric] = right_M.to(torch.int8).numpy()

    for k, metric in [(recipe.k, "top1"), *((k, f"top1_k{k}") for k in ks)]:
        predicted_M, behind_M = ranks_of(
            neighbours,
            labels_N,
            truth_M,
            k=k,
            num_classes=classes,
            temperature=recipe.temperature,
        )
        note(metric, predicted_M, behind_M == 0)
        if metric == "top1" and classes > 5:
            note("top5", predicted_M, behind_M < 5)
    return Predictions(
        files=test.names,
        classes=train.classes,
        labels_M=test.labels_N,
        predicted=predicted,
        correct=correct,
    )
