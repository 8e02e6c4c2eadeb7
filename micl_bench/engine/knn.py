"""Weighted k-nearest-neighbour classification of features (Wu et al. 2018; Caron et al. 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from micl_bench.errors import InputError

# Similarities of one chunk of queries to all keys: 256 MiB of fp32.
_CHUNK_ELEMENTS = 1 << 26


def knn_scores(
    train_ND: Tensor, labels_N: Tensor, test_MD: Tensor, *, k: int, temperature: float = 0.07
) -> Tensor:
    """Class scores_MC: votes of the k most similar training images, weight exp(cosine / T).

    A row is scaled so that the nearest neighbour weighs 1.

    Exact: every pair is compared, in chunks of bounded memory.

    Raises:
        InputError: k is below 1 or above the number of training images.
    """
    if not temperature > 0:
        raise InputError(f"temperature is {temperature}; it must be above 0")
    if not 1 <= k <= len(train_ND):
        raise InputError(f"k is {k}; it must be from 1 to the {len(train_ND)} training images")
    num_classes = int(labels_N.max()) + 1
    keys_ND, queries_MD = F.normalize(train_ND, dim=1), F.normalize(test_MD, dim=1)
    chunk = max(1, _CHUNK_ELEMENTS // len(train_ND))
    scores = []
    for query_mD in queries_MD.split(chunk):
        similarity_mk, index_mk = (query_mD @ keys_ND.T).topk(k, dim=1)
        votes_mC = similarity_mk.new_zeros(len(query_mD), num_classes)
        # Relative to the nearest neighbour: the same order, and no overflow at low temperatures.
        weight_mk = ((similarity_mk - similarity_mk[:, :1]) / temperature).exp()
        scores.append(votes_mC.scatter_add_(1, labels_N[index_mk], weight_mk))
    return torch.cat(scores)


def top1(scores_MC: Tensor, labels_M: Tensor) -> float:
    """Percentage of rows whose largest score is the label's."""
    return 100.0 * (scores_MC.argmax(dim=1) == labels_M).double().mean().item()
