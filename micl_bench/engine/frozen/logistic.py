"""Multinomial logistic regression with an L2 penalty, on features of any number.

The objective and the solver are scikit-learn's `LogisticRegression(solver="lbfgs")`: SciPy's L-BFGS-B
on  1/n sum_i cross_entropy(W x_i + b, y_i) + |W|^2 / (2 C n),  in double precision. The loss and its
gradient are computed by torch in chunks, so that they run on the device, and 1.28 million images of
width 1024 with 1000 classes need no more memory than their features.

Shapes: N images, n of a chunk, D width, K classes.
"""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from micl_bench.runtime.errors import InputError

# Logits of a chunk, and as many probabilities: 128 MiB each.
_CHUNK_ELEMENTS = 1 << 24


@dataclasses.dataclass(frozen=True)
class LogisticFit:
    """A fitted model, and how the solver ended."""

    weight_KD: Tensor
    """fp64, on the device it was fitted on."""
    bias_K: Tensor
    iterations: int
    converged: bool
    """True where the solver met a tolerance; else it ran out of iterations, or of digits."""

    def logits(self, features_MD: Tensor) -> Tensor:
        """logits_MK, fp64, on the CPU."""
        weight_KD = self.weight_KD
        chunks = features_MD.split(max(1, _CHUNK_ELEMENTS // len(weight_KD)))
        return torch.cat(
            [F.linear(rows.to(weight_KD), weight_KD, self.bias_K).cpu() for rows in chunks]
        )


@torch.no_grad()
def fit_logistic(
    features_ND: Tensor,
    labels_N: Tensor,
    *,
    num_classes: int,
    c: float,
    intercept: bool = True,
    max_iter: int = 1000,
    tolerance: float = 1e-12,
    device: torch.device | None = None,
) -> LogisticFit:
    """Fit a multinomial regression with an L2 penalty, from weights of zero.

    Args:
        features_ND: as they are; of any floating type.
        c: inverse of the penalty's strength, on the sum of losses: scikit-learn's `C`.
        intercept: fit a bias, which is not penalised.
        tolerance: on the largest entry of the mean loss's gradient.

    Raises:
        InputError: features that are not finite, or a class without an image.
    """
    if not features_ND.isfinite().all():
        raise InputError("some features are not finite; is the checkpoint damaged?")
    if len(labels_N.unique()) < num_classes:
        raise InputError(f"a class has no training image; there are {num_classes} classes")
    # Moved once if the device can hold them as they are; each chunk is widened in its turn.
    objective = _Objective(
        features_ND.to(device), labels_N.to(device), num_classes=num_classes, c=c, bias=intercept
    )
    found = minimize(
        objective.loss_and_gradient,
        np.zeros(num_classes * objective.columns),
        method="L-BFGS-B",
        jac=True,
        options={
            "maxiter": max_iter,
            "maxfun": 10 * max_iter,
            "maxls": 50,
            "gtol": tolerance,
            "ftol": 64 * np.finfo(np.float64).eps,
        },
    )
    _, weight_KD, bias_K = objective.parts(found.x)
    return LogisticFit(
        weight_KD=weight_KD.contiguous(),
        bias_K=bias_K,
        iterations=int(found.nit),
        converged=bool(found.success),
    )


class _Objective:
    """The function of all parameters in a row that is minimised; P = D, or D + 1 with a bias."""

    def __init__(
        self, features_ND: Tensor, labels_N: Tensor, *, num_classes: int, c: float, bias: bool
    ) -> None:
        self._features_ND, self._labels_N, self._c = features_ND, labels_N, c
        self._num_classes, self.columns = num_classes, features_ND.shape[1] + int(bias)

    def parts(self, flat: NDArray[np.float64]) -> tuple[Tensor, Tensor, Tensor]:
        """parameters_KP, weight_KD, bias_K on the device; without a bias zeros."""
        D = self._features_ND.shape[1]
        parameters_KP = torch.from_numpy(flat.reshape(self._num_classes, self.columns))
        parameters_KP = parameters_KP.to(self._features_ND.device)
        return parameters_KP, parameters_KP[:, :D], parameters_KP[:, D:].sum(dim=1)

    def loss_and_gradient(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Mean loss with the penalty, and its gradient, in fp64."""
        (N, D), rows = self._features_ND.shape, max(1, _CHUNK_ELEMENTS // self._num_classes)
        parameters_KP, weight_KD, bias_K = self.parts(flat)
        gradient_KP = torch.zeros_like(parameters_KP)
        total = parameters_KP.new_zeros(())
        chunks = zip(self._features_ND.split(rows), self._labels_N.split(rows), strict=True)
        for chunk_nD, labels_n in chunks:
            wide_nD = chunk_nD.double()
            logits_nK = F.linear(wide_nD, weight_KD, bias_K)
            total += F.cross_entropy(logits_nK, labels_n, reduction="sum")
            error_nK = logits_nK.softmax(dim=1)
            error_nK[torch.arange(len(labels_n), device=labels_n.device), labels_n] -= 1
            gradient_KP[:, :D] += error_nK.T @ wide_nD
            gradient_KP[:, D:] += error_nK.sum(dim=0)[:, None]
        gradient_KP[:, :D] += weight_KD / self._c
        loss = (total + weight_KD.square().sum() / (2 * self._c)) / N
        return loss.item(), (gradient_KP / N).cpu().numpy().ravel()


def centred_rows(features_ND: Tensor) -> Tensor:
    """Each feature vector less its own mean, at length 1 (MSN's preparation)."""
    return F.normalize(features_ND - features_ND.mean(dim=1, keepdim=True), dim=1)
