"""One training step: rows, loss, gradient, update; the same for training and its bench."""

import torch
from torch import Tensor, nn

from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.gradient import backward
from micl_bench.engine.pretraining.parallel import model_of
from micl_bench.runs.optim import set_rate
from micl_bench.runs.parallel import gradient_norm
from micl_bench.runtime.distributed import mean


class Step:
    """Updates a model in place."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        micro_batch: int = 0,
        clip_norm: float = 0.0,
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._micro_batch, self._clip_norm = micro_batch, clip_norm
        self._inner = model_of(model)
        self.numbers = ("loss", *self._inner.objective.numbers, "gradient_norm")
        """What a step reports, in this order: means over processes."""

    def __call__(self, batch: Visible, rate: float) -> Tensor:
        """The numbers named in `numbers`, on the device: nothing here waits for them."""
        set_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        output = backward(self._model, batch, micro_batch=self._micro_batch)
        norm = gradient_norm(self._model, clip_norm=self._clip_norm)
        self._optimizer.step()
        inner = self._inner
        inner.objective.after_step(inner.vit, inner.added)
        reported = [output.numbers[name] for name in inner.objective.numbers]
        return mean(torch.stack([output.loss.detach(), *reported, norm]))
