"""Health of a representation against naive loops and closed forms."""

import math

import pytest
import torch

from micl_bench.engine.pretraining import health
from micl_bench.engine.pretraining.health import rankme, uniformity
from micl_bench.losses import alignment


def some_features(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def squared_distance(x: list[float], y: list[float]) -> float:
    """Of the unit vectors in these directions."""
    long_x, long_y = (math.sqrt(sum(a * a for a in v)) for v in (x, y))
    return sum((a / long_x - b / long_y) ** 2 for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("shape", [(1, 2, 3), (6, 2, 4), (5, 3, 7), (4, 4, 2)])
def test_alignment_equals_naive_loops(shape: tuple[int, int, int]) -> None:
    features = some_features(*shape).tolist()
    distances = [
        squared_distance(image[a], image[b])
        for image in features
        for a in range(shape[1])
        for b in range(shape[1])
        if a != b
    ]
    expected = sum(distances) / len(distances)
    assert alignment(some_features(*shape)).item() == pytest.approx(expected, rel=1e-12)


def test_alignment_of_equal_opposite_and_orthogonal_views() -> None:
    x, y = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.5])
    # fp32, of vectors along the axes: exact.
    assert alignment(torch.stack([x, 2 * x])[None]).item() == 0
    assert alignment(torch.stack([x, -x])[None]).item() == 4
    assert alignment(torch.stack([x, y])[None]).item() == 2


@pytest.mark.parametrize("shape", [(2, 3), (7, 4), (20, 2)])
@pytest.mark.parametrize("chunk", [1, 50, 1 << 26])
def test_uniformity_equals_naive_loops_whatever_the_chunk(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], chunk: int
) -> None:
    monkeypatch.setattr(health, "_CHUNK_ELEMENTS", chunk)
    features = some_features(*shape).tolist()
    kernels = [
        math.exp(-2 * squared_distance(features[i], features[j]))
        for i in range(shape[0])
        for j in range(shape[0])
        if i != j
    ]
    expected = math.log(sum(kernels) / len(kernels))
    assert uniformity(some_features(*shape)).item() == pytest.approx(expected, rel=1e-12)


def test_uniformity_of_equal_orthogonal_and_opposite_features() -> None:
    assert uniformity(torch.tensor([[1.0, 0.0], [2.0, 0.0], [9.0, 0.0]])).item() == 0
    # Squared distance 2 between any two, 4 between opposite ones; fp64 loses next to nothing.
    orthogonal, opposite = torch.eye(5), torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
    assert uniformity(orthogonal.double()).item() == pytest.approx(-4, abs=1e-12)
    assert uniformity(opposite.double()).item() == pytest.approx(-8, abs=1e-12)


# The published definition adds 1e-7 to every share, which moves an entropy of 8 shares by up to
# 8e-7 * |log(1e-7)| = 1.3e-5.
NEARLY = 2e-5


@pytest.mark.parametrize("rank", [1, 2, 5, 8])
def test_rankme_of_equal_singular_values_is_their_number(rank: int) -> None:
    features_ND = torch.zeros(10, 8)
    features_ND[:rank, :rank] = 3 * torch.eye(rank)
    assert rankme(features_ND).item() == pytest.approx(rank, rel=NEARLY)


def test_rankme_of_one_direction_is_one() -> None:
    features_ND = some_features(20, 1) * some_features(1, 8)
    assert rankme(features_ND).item() == pytest.approx(1, rel=NEARLY)
    assert rankme(torch.ones(20, 8)).item() == pytest.approx(1, rel=NEARLY)


def test_rankme_of_known_singular_values() -> None:
    # Shares 0.5, 0.25, 0.25, in turned coordinates: entropy 1.5 log 2.
    left, _ = torch.linalg.qr(some_features(12, 3))
    right, _ = torch.linalg.qr(some_features(5, 3))
    features_ND = left @ torch.diag(torch.tensor([4.0, 2.0, 2.0], dtype=torch.float64)) @ right.T
    assert rankme(features_ND).item() == pytest.approx(2**1.5, rel=NEARLY)
    assert rankme(100 * features_ND).item() == pytest.approx(2**1.5, rel=NEARLY)
