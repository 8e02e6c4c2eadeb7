"""The MiCL loss against a naive twin in plain Python, closed forms and symmetries."""

import math

import pytest
import torch

from micl_bench.losses import micl_loss, micl_loss_of_rows, tsp_similarity, view_cosines
from micl_bench.runtime.errors import InputError


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


def some_features(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_equal_parts_average_to_the_whole_and_so_do_their_gradients(views: int, parts: int) -> None:
    features_NVD = some_features(6, views, 5).requires_grad_()
    whole = micl_loss(features_NVD, kappa=0.5, temperature=0.2)
    (expected,) = torch.autograd.grad(whole, features_NVD)
    n = 6 // parts
    shares = [
        micl_loss_of_rows(
            features_NVD[first : first + n], features_NVD, first=first, kappa=0.5, temperature=0.2
        )
        for first in range(0, 6, n)
    ]
    together = torch.stack(shares).mean()
    (gradient,) = torch.autograd.grad(together, features_NVD)
    # The same sums in another order, in fp64.
    assert together.item() == pytest.approx(whole.item(), rel=1e-13)
    torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kappa", [0.0, 1 / 64, 2.0])
@pytest.mark.parametrize("shape", [(4, 2, 3), (3, 3, 4)])
def test_the_gradient_is_that_of_finite_differences(
    kappa: float, shape: tuple[int, int, int]
) -> None:
    features_NVD = some_features(*shape).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda features: micl_loss(features, kappa=kappa, temperature=0.3), (features_NVD,)
    )


@pytest.mark.parametrize("shape", [(2, 2, 3), (5, 2, 4), (4, 3, 6)])
def test_cosines_of_views_equal_naive_loops(shape: tuple[int, int, int]) -> None:
    features = some_features(*shape)
    images, views, _ = shape
    same, different = [], []
    for i in range(images):
        for j in range(images):
            for a in range(views):
                for b in range(views):
                    if a == b:
                        continue
                    x, y = features[i, a].tolist(), features[j, b].tolist()
                    dot = sum(p * q for p, q in zip(x, y, strict=True))
                    cosine = dot / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y))
                    (same if i == j else different).append(cosine)
    positive, negative = view_cosines(features)
    # fp64; sums of all pairs minus sums of few lose a digit or two.
    assert positive.item() == pytest.approx(sum(same) / len(same), abs=1e-13)
    assert negative.item() == pytest.approx(sum(different) / len(different), abs=1e-13)


def test_cosines_of_one_image_have_no_different_one() -> None:
    positive, negative = view_cosines(torch.ones(1, 2, 4))
    assert positive.item() == pytest.approx(1, rel=1e-6)
    assert math.isnan(negative.item())


def test_cosines_of_views_keep_no_gradient() -> None:
    positive, negative = view_cosines(some_features(3, 2, 4).requires_grad_())
    assert not positive.requires_grad
    assert not negative.requires_grad
