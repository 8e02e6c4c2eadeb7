"""k-NN against a loop over pairs; against scikit-learn: tests/tasks/test_knn_task.py."""

import math

import pytest
import torch

from micl_bench.engine.frozen import neighbours
from micl_bench.engine.frozen.knn import knn_scores, ranks_of, top1, votes
from micl_bench.engine.frozen.neighbours import nearest_keys
from micl_bench.runtime.errors import InputError

CPU = torch.device("cpu")
Data = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture
def features() -> Data:
    generator = torch.Generator().manual_seed(0)
    train_ND = torch.randn(210, 8, generator=generator, dtype=torch.float64)
    labels_N = torch.randint(0, 7, (210,), generator=generator)
    test_MD = torch.randn(20, 8, generator=generator, dtype=torch.float64)
    return train_ND, labels_N, test_MD


@pytest.mark.parametrize("k", [1, 5, 64, 100, 210])
def test_equals_the_naive_twin(features: Data, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    train_ND, labels_N, test_MD = features
    # Queries in blocks of 7, 7, 6; keys in blocks of 64, the last one of 18.
    monkeypatch.setattr(neighbours, "_BLOCK_QUERIES", 7)
    monkeypatch.setattr(neighbours, "_BLOCK_KEYS", 64)
    scores_MC = knn_scores(train_ND, labels_N, test_MD, k=k, temperature=0.07)
    for query, row in zip(test_MD.tolist(), scores_MC.tolist(), strict=True):
        cosines = []
        for key, label in zip(train_ND.tolist(), labels_N.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, key, strict=True))
            cosines.append((dot / math.hypot(*query) / math.hypot(*key), label))
        expected = [0.0] * 7
        nearest = max(cosines)[0]
        for cosine, label in sorted(cosines, reverse=True)[:k]:
            expected[label] += math.exp((cosine - nearest) / 0.07)
        assert row == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("k", [3, 7, 50])
def test_a_smaller_k_is_read_from_the_search_for_a_larger_one(features: Data, k: int) -> None:
    train_ND, labels_N, test_MD = features
    scores_MC = knn_scores(train_ND, labels_N, test_MD, k=k, temperature=0.07)
    found = nearest_keys(train_ND, test_MD, k=100, device=CPU)
    predicted_M, _ = ranks_of(found, labels_N, labels_N[:20], k=k, num_classes=7, temperature=0.07)
    assert torch.equal(predicted_M, scores_MC.argmax(1))


@pytest.mark.parametrize("k", [0, 211])
def test_impossible_k_is_refused(features: Data, k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}; it must be from 1 to the 210"):
        knn_scores(*features, k=k)
    with pytest.raises(InputError, match="from 1 to the 210"):
        nearest_keys(features[0], features[2], k=k, device=CPU)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_features_that_are_not_finite_are_refused(features: Data, value: str) -> None:
    features[0][3, 2] = float(value)
    with pytest.raises(InputError, match="not finite"):
        nearest_keys(features[0], features[2], k=2, device=CPU)


def test_a_budget_that_is_too_small_tells_the_least(features: Data) -> None:
    train_ND = torch.zeros(20_000, 64)
    with pytest.raises(InputError, match=r"memory_mib is 1; needed: at least (\d+)") as refused:
        nearest_keys(train_ND, train_ND[:600], k=20, device=CPU, memory_mib=1)
    least = int(str(refused.value).split()[-1])
    nearest_keys(train_ND[:, :1], train_ND[:600, :1], k=20, device=CPU, memory_mib=least)


def test_equal_keys_count_in_their_order() -> None:
    # A collapsed network: every feature is the same.
    same_ND = torch.ones(1000, 4)
    similarity_Mk, index_Mk = nearest_keys(same_ND, same_ND[:600], k=5, device=CPU)
    assert index_Mk.tolist() == [[0, 1, 2, 3, 4]] * 600
    assert torch.equal(similarity_Mk, torch.ones(600, 5))


def test_a_low_temperature_is_the_nearest_neighbour(features: Data) -> None:
    train_ND, labels_N, test_MD = (
        part.float() if part.is_floating_point() else part for part in features
    )
    scores_MC = knn_scores(train_ND, labels_N, test_MD, k=7, temperature=1e-4)
    assert scores_MC.isfinite().all()
    nearest_M = knn_scores(train_ND, labels_N, test_MD, k=1).argmax(1)
    assert torch.equal(scores_MC.argmax(1), nearest_M)
    with pytest.raises(InputError, match="temperature is 0"):
        knn_scores(train_ND, labels_N, test_MD, k=1, temperature=0)


def test_places_of_the_true_class() -> None:
    similarity_Mk = torch.tensor([[1.0, 1.0, 0.5, 0.5]]).expand(4, -1)
    index_Mk = torch.tensor([[0, 1, 2, 3]]).expand(4, -1)
    labels_N = torch.tensor([2, 1, 2, 0])
    scores_MC = votes(similarity_Mk, labels_N[index_Mk], num_classes=4, temperature=0.5)
    # exp(-1) of the nearest: class 2 has 1.37, class 1 has 1, class 0 has 0.37, class 3 nothing.
    assert scores_MC[0].tolist() == pytest.approx([math.exp(-1), 1, 1 + math.exp(-1), 0])
    truth_M = torch.tensor([2, 1, 0, 3])
    predicted_M, behind_M = ranks_of(
        (similarity_Mk, index_Mk), labels_N, truth_M, k=4, num_classes=4, temperature=0.5
    )
    assert predicted_M.tolist() == [2] * 4
    # A class without a vote is behind all, however few classes there are.
    assert behind_M.tolist() == [0, 1, 2, 4]
    # The nearest two tie: the first class leads.
    predicted_M, behind_M = ranks_of(
        (similarity_Mk, index_Mk), labels_N, truth_M, k=2, num_classes=4, temperature=0.5
    )
    assert (predicted_M.tolist(), behind_M.tolist()) == ([1] * 4, [1, 0, 4, 4])


def test_top1_counts_every_row_once() -> None:
    scores_MC = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0]])
    assert top1(scores_MC, torch.tensor([1, 0, 0])) == pytest.approx(200 / 3)
