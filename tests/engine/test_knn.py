"""k-NN against a loop over pairs, and against scikit-learn."""

import math

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from micl_bench.engine import knn
from micl_bench.engine.knn import knn_scores, top1
from micl_bench.errors import InputError


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    train_ND = torch.randn(60, 8, generator=generator, dtype=torch.float64)
    labels_N = torch.randint(0, 4, (60,), generator=generator)
    test_MD = torch.randn(20, 8, generator=generator, dtype=torch.float64)
    return train_ND, labels_N, test_MD


def test_equals_the_naive_twin(features, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    train_ND, labels_N, test_MD = features
    monkeypatch.setattr(knn, "_CHUNK_ELEMENTS", 60 * 7)  # 20 queries in chunks of 7, 7, 6
    scores_MC = knn_scores(train_ND, labels_N, test_MD, k=5, temperature=0.07)
    for query, row in zip(test_MD.tolist(), scores_MC.tolist(), strict=True):
        cosines = []
        for key, label in zip(train_ND.tolist(), labels_N.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, key, strict=True))
            cosines.append((dot / math.hypot(*query) / math.hypot(*key), label))
        expected = [0.0] * 4
        nearest = max(cosines)[0]
        for cosine, label in sorted(cosines, reverse=True)[:5]:
            expected[label] += math.exp((cosine - nearest) / 0.07)
        assert row == pytest.approx(expected, rel=1e-5)


def test_agrees_with_scikit_learn(features) -> None:  # type: ignore[no-untyped-def]
    train_ND, labels_N, test_MD = features
    reference = KNeighborsClassifier(
        n_neighbors=7, metric="cosine", weights=lambda distance: _weights(distance)
    ).fit(train_ND.numpy(), labels_N.numpy())
    scores_MC = knn_scores(train_ND, labels_N, test_MD, k=7, temperature=0.07)
    assert scores_MC.argmax(1).tolist() == reference.predict(test_MD.numpy()).tolist()


def _weights(distance):  # type: ignore[no-untyped-def]
    return torch.from_numpy(1 - distance).div(0.07).exp().numpy()


@pytest.mark.parametrize("k", [0, 61])
def test_impossible_k_is_refused(features, k: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="from 1 to the 60"):
        knn_scores(*features, k=k)


def test_a_low_temperature_is_the_nearest_neighbour(features) -> None:  # type: ignore[no-untyped-def]
    train_ND, labels_N, test_MD = (
        part.float() if part.is_floating_point() else part for part in features
    )
    scores_MC = knn_scores(train_ND, labels_N, test_MD, k=7, temperature=1e-4)
    assert scores_MC.isfinite().all()
    nearest_M = knn_scores(train_ND, labels_N, test_MD, k=1).argmax(1)
    assert torch.equal(scores_MC.argmax(1), nearest_M)


def test_top1_counts_every_row_once() -> None:
    scores_MC = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0]])
    assert top1(scores_MC, torch.tensor([1, 0, 0])) == pytest.approx(200 / 3)
