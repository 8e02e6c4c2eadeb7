"""Health of a representation against naive loops and closed forms; the collapse watch step by step."""

import math

import pytest
import torch

from micl_bench.engine.pretraining import health
from micl_bench.engine.pretraining.health import CollapseWatch, alignment, rankme, uniformity


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


def tell(
    watch: CollapseWatch, step: int, *, bad: bool, loss: float | None = None, gap: float = 0.0
) -> str:
    loss = loss if loss is not None else math.log(16) if bad else 1.0
    return watch(step=step, loss=loss, positive=0.9 + gap, negative=0.9)


def test_a_collapse_is_told_once_when_an_epoch_after_the_warm_up_is_complete() -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=3, steps_per_epoch=5)
    told = {step: text for step in range(1, 30) if (text := tell(watch, step, bad=True))}
    # Steps 4 to 8 are the first five after the warm-up.
    assert list(told) == [8]
    assert "2.773 of log(16) = 2.773" in told[8]
    assert "(mean cosine 0.900)" in told[8]


def test_a_single_good_step_begins_the_epoch_anew() -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=0, steps_per_epoch=5)
    told = [step for step in range(1, 30) if tell(watch, step, bad=step not in (5, 8))]
    assert told == [13]


def test_after_a_recovery_it_is_told_again() -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=0, steps_per_epoch=2)
    told = [step for step in range(1, 12) if tell(watch, step, bad=step != 6)]
    assert told == [2, 8]


@pytest.mark.parametrize(
    ("loss", "gap", "expected"),
    [
        (math.log(16), 0.0, True),
        (0.991 * math.log(16), 0.019, True),
        # Worse than chance is no better.
        (2 * math.log(16), -0.5, True),
        (0.989 * math.log(16), 0.0, False),
        (math.log(16), 0.021, False),
        (float("nan"), 0.0, False),
    ],
)
def test_both_the_loss_and_the_cosines_must_say_so(loss: float, gap: float, expected: bool) -> None:
    watch = CollapseWatch(num_images=16, warmup_steps=0, steps_per_epoch=1)
    assert bool(tell(watch, 1, bad=True, loss=loss, gap=gap)) == expected
