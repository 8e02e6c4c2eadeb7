"""A linear classifier on fixed features: batch norm without affine (as MAE), then one linear layer."""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micl_bench.engine.optim import learning_rate
from micl_bench.errors import InputError
from micl_bench.log import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """SGD with momentum 0.9, no weight decay, cosine to 0; rate in use: base_lr * batch_size / 256."""

    epochs: int = 90
    base_lr: float = 0.1
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.base_lr < float("inf") or self.batch_size < 2:
            raise InputError(
                f"epochs {self.epochs}, base_lr {self.base_lr}, batch_size {self.batch_size}; "
                "needed: epochs >= 1, base_lr > 0, batch_size >= 2"
            )


def fit_probe(
    features_ND: Tensor, labels_N: Tensor, *, num_classes: int, config: ProbeConfig, seed: int
) -> Callable[[Tensor], Tensor]:
    """Fit on all features; returns a function from features_MD to logits_MC."""
    generator = torch.Generator().manual_seed(seed)
    N, D = features_ND.shape
    if N < 2:
        raise InputError("a linear probe needs two or more training images")
    batch_size = min(config.batch_size, N)
    norm, linear = nn.BatchNorm1d(D, affine=False), nn.Linear(D, num_classes)
    nn.init.normal_(linear.weight, std=0.01, generator=generator)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.SGD(linear.parameters(), lr=config.base_lr, momentum=0.9)
    per_epoch = N // batch_size
    peak, total = config.base_lr * batch_size / 256, config.epochs * per_epoch
    with Progress("linear probe", total=config.epochs) as progress:
        for epoch in range(config.epochs):
            order = torch.randperm(N, generator=generator)[: per_epoch * batch_size]
            for position, index in enumerate(order.split(batch_size)):
                step = epoch * per_epoch + position
                optimizer.param_groups[0]["lr"] = learning_rate(
                    step, peak=peak, warmup_steps=0, total_steps=total
                )
                loss = F.cross_entropy(linear(norm(features_ND[index])), labels_N[index])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            if not torch.isfinite(loss):
                raise InputError(
                    f"the probe's loss is not finite in epoch {epoch + 1}; lower base_lr"
                )
            progress.step(f"loss {loss.item():.3f}")
    norm.eval()

    @torch.inference_mode()
    def classify(features_MD: Tensor) -> Tensor:
        return linear(norm(features_MD))

    return classify
