"""One training step: rows, loss, gradient, update; the same for training and its bench.

The gradient is that of a loss over a whole batch, in memory for a part of it. A contrastive loss is no
sum over images: cutting the batch and averaging would change the negatives, and so the method. But it
depends on the weights through its rows alone. So the rows of all parts are computed first, without
keeping activations; then the loss and its gradient with respect to them; then each part once more, with
its own rows of that gradient (Gao et al. 2021, "GradCache"). Up to rounding, the result is that of the
uncut batch, for a second forward pass.
"""

import torch
from torch import Tensor, nn

from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.model import model_of
from micl_bench.objectives import Output
from micl_bench.runs.optim import set_rate
from micl_bench.runs.parallel import exchanging, gradient_norm
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
        """Names of a step's numbers, in this order; each is a mean over processes."""

    def __call__(self, batch: Visible, rate: float, progress: float = 0.0) -> Tensor:
        """Update the weights at this learning rate; `progress` is the share of the run's steps that are
        done then. Returns the values of `numbers`, on the device: nothing here waits for them."""
        set_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        output, rows = backward(self._model, batch, micro_batch=self._micro_batch)
        norm = gradient_norm(self._model, clip_norm=self._clip_norm)
        self._optimizer.step()
        inner = self._inner
        with torch.no_grad():
            inner.objective.after_step(inner.vit, inner.added, rows, progress)
        reported = [output.numbers[name] for name in inner.objective.numbers]
        return mean(torch.stack([output.loss.detach(), *reported, norm]))


def backward(model: nn.Module, batch: Visible, *, micro_batch: int = 0) -> tuple[Output, Tensor]:
    """Add the loss's gradient to the parameters' `grad`; returns this process's loss, and the rows that
    it was computed from, without gradient.

    Over processes, gradients are averaged, as the loss is. A forward pass has `micro_batch` images; 0
    for all at once.
    """
    inner, seen = model_of(model), batch.seen()
    size = min(micro_batch or len(batch), len(batch))
    if size == len(batch):
        rows = model(seen)
        output = inner.objective.loss(rows)
        output.loss.backward()
        return output, rows.detach()
    parts = seen.split(size)
    # Not through DDP, which would prepare for a backward pass.
    with torch.no_grad():
        rows = torch.cat([inner(part) for part in parts])
    rows.requires_grad_()
    output = inner.objective.loss(rows)
    gradients: tuple[Tensor, ...] = torch.autograd.grad(output.loss, rows)[0].split(size)
    for number, (part, gradient) in enumerate(zip(parts, gradients, strict=True), start=1):
        with exchanging(model, number == len(parts)):
            model(part).backward(gradient)
    return output, rows.detach()
