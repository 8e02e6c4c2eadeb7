"""Weighted k-nearest-neighbour classification of features (Wu et al. 2018; Caron et al. 2021).

Shapes: N training images, M evaluated ones, m of them at a time, D width, C classes.
"""

import torch
from torch import Tensor

from micl_bench.engine.frozen.neighbours import Neighbours, own_nearest_keys
from micl_bench.runtime.errors import InputError

# Rows that are voted on at a time.
_ROWS = 4096


def knn_scores(
    train_ND: Tensor, labels_N: Tensor, test_MD: Tensor, *, k: int, temperature: float = 0.07
) -> Tensor:
    """Class scores_MC, on the CPU, of one process's own search on the features' device."""
    similarity_Mk, index_Mk = own_nearest_keys(train_ND, test_MD, k=k)
    labels_N = labels_N.cpu()
    num_classes = int(labels_N.max()) + 1
    return votes(
        similarity_Mk, labels_N[index_Mk], num_classes=num_classes, temperature=temperature
    )


def votes(
    similarity_Mk: Tensor, labels_Mk: Tensor, *, num_classes: int, temperature: float
) -> Tensor:
    """Class scores_MC, fp64: each neighbour votes for its class with weight exp(cosine / T).

    A row is scaled so that the nearest neighbour weighs 1: the same order, and no overflow at low
    temperatures.
    """
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}; it must be above 0")
    similarity_Mk = similarity_Mk.double()
    weight_Mk = ((similarity_Mk - similarity_Mk[:, :1]) / temperature).exp()
    scores_MC = weight_Mk.new_zeros(len(weight_Mk), num_classes)
    return scores_MC.scatter_add_(1, labels_Mk, weight_Mk)


def ranks_of(
    neighbours: Neighbours,
    labels_N: Tensor,
    truth_M: Tensor,
    *,
    k: int,
    num_classes: int,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Predicted class of each query, and how many classes have more votes than the true one.

    Of classes with equal votes the first one leads. A class without a vote is behind all.
    """
    similarity_Mk, index_Mk = (part[:, :k] for part in neighbours)
    predicted, behind = [], []
    for similarity_mk, index_mk, truth_m in zip(
        similarity_Mk.split(_ROWS), index_Mk.split(_ROWS), truth_M.split(_ROWS), strict=True
    ):
        scores_mC = votes(
            similarity_mk, labels_N[index_mk], num_classes=num_classes, temperature=temperature
        )
        own_m1 = scores_mC.gather(1, truth_m[:, None])
        earlier_mC = torch.arange(num_classes) < truth_m[:, None]
        ahead_mC = (scores_mC > own_m1) | ((scores_mC == own_m1) & earlier_mC)
        place_m = torch.where(own_m1[:, 0] > 0, ahead_mC.sum(dim=1), num_classes)
        predicted.append(scores_mC.argmax(dim=1))
        behind.append(place_m)
    return torch.cat(predicted), torch.cat(behind)


def top1(scores_MC: Tensor, labels_M: Tensor) -> float:
    """Percentage of rows whose largest score is the label's."""
    return 100.0 * (scores_MC.argmax(dim=1) == labels_M).double().mean().item()
