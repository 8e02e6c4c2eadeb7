"""Logistic regression against scikit-learn's, and against its own optimality condition."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from micl_bench.engine.frozen import logistic
from micl_bench.engine.frozen.logistic import centred_rows, fit_logistic
from micl_bench.runtime.errors import InputError


@pytest.fixture
def features() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.randint(0, 4, (150,), generator=generator)
    centres_KD = torch.randn(4, 7, generator=generator)
    return centres_KD[labels_N] + torch.randn(150, 7, generator=generator) + 1, labels_N


@pytest.mark.parametrize("c", [1e-3, 0.3, 1e2])
@pytest.mark.parametrize("intercept", [True, False])
def test_agrees_with_scikit_learn(
    features: tuple[Tensor, Tensor], c: float, intercept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features_ND, labels_N = features
    monkeypatch.setattr(logistic, "_CHUNK_ELEMENTS", 4 * 40)  # chunks of 40, 40, 40, 30
    fit = fit_logistic(features_ND, labels_N, num_classes=4, c=c, intercept=intercept)
    twin = LogisticRegression(C=c, fit_intercept=intercept, max_iter=10000, tol=1e-12)
    twin.fit(features_ND.double().numpy(), labels_N.numpy())
    coefficients = torch.from_numpy(twin.coef_)
    torch.testing.assert_close(fit.weight_KD, coefficients, rtol=1e-4, atol=1e-5)
    expected_NK = torch.from_numpy(twin.predict_log_proba(features_ND.double().numpy()))
    found_NK = fit.logits(features_ND).log_softmax(dim=1)
    torch.testing.assert_close(found_NK, expected_NK, rtol=1e-4, atol=1e-5)
    assert 0 < fit.iterations <= 1000
    assert bool(fit.bias_K.any()) == intercept


def test_msns_strength_is_c_4000(features: tuple[Tensor, Tensor]) -> None:
    """1/n sum of losses + 0.00025 / n * |W|^2 / 2 has its minimum there: its slope is 0."""
    rows_ND, labels_N = centred_rows(features[0]), features[1]
    fit = fit_logistic(rows_ND, labels_N, num_classes=4, c=4000.0, intercept=False, max_iter=5000)
    weight_KD = fit.weight_KD.clone().requires_grad_()
    loss = F.cross_entropy(rows_ND.double() @ weight_KD.T, labels_N)
    (loss + 0.00025 / len(labels_N) * weight_KD.square().sum() / 2).backward()
    assert weight_KD.grad is not None
    assert weight_KD.grad.abs().max() < 1e-7
    # Of the loss alone it is not.
    assert (0.00025 / len(labels_N) * weight_KD).abs().max() > 1e-6


def test_rows_are_centred_and_of_length_one(features: tuple[Tensor, Tensor]) -> None:
    for row, found in zip(features[0].tolist(), centred_rows(features[0]).tolist(), strict=True):
        mean = sum(row) / len(row)
        length = math.hypot(*(value - mean for value in row))
        assert found == pytest.approx([(value - mean) / length for value in row], abs=1e-6)


def test_a_fit_that_is_cut_says_so(features: tuple[Tensor, Tensor]) -> None:
    fit = fit_logistic(*features, num_classes=4, c=1e4, max_iter=3)
    assert (fit.iterations, fit.converged) == (3, False)


def test_senseless_features_give_no_number(features: tuple[Tensor, Tensor]) -> None:
    features_ND, labels_N = features
    with pytest.raises(InputError, match="no training image"):
        fit_logistic(features_ND, labels_N, num_classes=5, c=1.0)
    features_ND[3, 2] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        fit_logistic(features_ND, labels_N, num_classes=4, c=1.0)
