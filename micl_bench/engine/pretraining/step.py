"""One training step: views to features, loss, gradient, update; the same for training and its bench."""

import torch
from torch import Tensor, nn

from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.gradient import backward
from micl_bench.engine.pretraining.parallel import gradient_norm
from micl_bench.losses import view_cosines
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.optim import set_rate
from micl_bench.runtime.distributed import mean

NUMBERS = ("loss", "positive_cosine", "negative_cosine", "gradient_norm")
"""What a step tells, in this order: means over processes, of the images that each contrasts."""


class Step:
    """Updates a model in place."""

    def __init__(
        self,
        model: nn.Module,
        objective: MiCL,
        optimizer: torch.optim.Optimizer,
        *,
        micro_batch: int = 0,
        clip_norm: float = 0.0,
    ) -> None:
        self._model, self._objective, self._optimizer = model, objective, optimizer
        self._micro_batch, self._clip_norm = micro_batch, clip_norm

    def __call__(self, batch: Visible, rate: float) -> Tensor:
        """The numbers named in `NUMBERS`, on the device: nothing here waits for them."""
        set_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        output = backward(
            self._model,
            self._objective,
            batch.patches(),
            batch.keep_NVK,
            micro_batch=self._micro_batch,
        )
        norm = gradient_norm(self._model, clip_norm=self._clip_norm)
        self._optimizer.step()
        return mean(torch.stack([output.loss, *view_cosines(output.features_NVD), norm]))
