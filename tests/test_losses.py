"""The MiCL loss against a naive twin in plain Python, closed forms and symmetries."""

import math

import pytest
import torch

from micl_bench.errors import InputError
from micl_bench.losses import micl_loss, tsp_similarity


def naive_loss(features: list[list[list[float]]], kappa: float, temperature: float) -> float:
    """The formulas of the method, one scalar at a time; features[image][view][channel]."""

    def similarity(x: list[float], y: list[float]) -> float:
        dot = sum(a * b for a, b in zip(x, y, strict=True))
        cosine = dot / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))
        return 0.5 * (1 + cosine) / (1 + (1 - cosine) * kappa)

    images, views = len(features), len(features[0])
    terms = []
    for a in range(views):
        for b in range(views):
            if a == b:
                continue
            for i in range(images):
                logits = [
                    similarity(features[i][a], features[j][b]) / temperature for j in range(images)
                ]
                terms.append(math.log(sum(math.exp(x) for x in logits)) - logits[i])
    return sum(terms) / len(terms)


@pytest.mark.parametrize("shape", [(1, 2, 3), (4, 2, 8), (5, 3, 7), (3, 4, 2)])
@pytest.mark.parametrize("kappa", [0.0, 1 / 64, 2.0])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_the_naive_twin(
    shape: tuple[int, int, int], kappa: float, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(sum(shape))
    features_NVD = torch.randn(shape, generator=generator, dtype=torch.float64)
    loss = micl_loss(features_NVD, kappa=kappa, temperature=temperature)
    expected = naive_loss(features_NVD.tolist(), kappa, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_identical_features_cannot_be_told_apart() -> None:
    assert micl_loss(torch.ones(8, 2, 4)).item() == pytest.approx(math.log(8), rel=1e-6)


def test_orthogonal_images_have_a_closed_form() -> None:
    # Same-image cosine 1 gives similarity 1, others cosine 0 give 0.5 / (1 + kappa).
    images, kappa, temperature = 6, 1 / 64, 0.07
    features_NVD = torch.eye(images, dtype=torch.float64)[:, None].expand(-1, 2, -1)
    other = math.exp((0.5 / (1 + kappa) - 1) / temperature)
    expected = math.log(1 + (images - 1) * other)
    assert micl_loss(features_NVD).item() == pytest.approx(expected, rel=1e-12)


def test_kappa_zero_is_a_rescaled_cosine() -> None:
    cosine = torch.linspace(-1, 1, 9, dtype=torch.float64)
    assert torch.equal(tsp_similarity(cosine, 0.0), (1 + cosine) / 2)


def test_similarity_ends_at_zero_and_one_and_grows() -> None:
    values = tsp_similarity(torch.linspace(-1, 1, 101, dtype=torch.float64), 1 / 64)
    assert (values[0].item(), values[-1].item()) == (0.0, 1.0)
    assert (values.diff() > 0).all()


def test_views_may_be_exchanged_and_features_rescaled() -> None:
    features_NVD = torch.randn(
        6, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    loss = micl_loss(features_NVD)
    assert micl_loss(features_NVD.flip(1)).item() == pytest.approx(loss.item(), rel=1e-12)
    assert micl_loss(features_NVD * 7).item() == pytest.approx(loss.item(), rel=1e-12)


def test_half_precision_features_are_contrasted_in_fp32() -> None:
    features_NVD = torch.randn(6, 2, 16, generator=torch.Generator().manual_seed(2)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = micl_loss(features_NVD)
    assert loss.dtype == torch.float32
    assert loss.item() == micl_loss(features_NVD.float()).item()


@pytest.mark.parametrize(
    "call",
    [
        lambda: micl_loss(torch.ones(4, 1, 3)),
        lambda: micl_loss(torch.ones(4, 3)),
        lambda: micl_loss(torch.ones(4, 2, 3), temperature=0.0),
        lambda: micl_loss(torch.ones(4, 2, 3), kappa=-1.0),
    ],
)
def test_impossible_input_is_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError):
        call()
