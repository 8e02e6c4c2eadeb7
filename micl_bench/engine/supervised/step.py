"""One step of supervised training: augmented pixels to logits, loss, gradient, update.

Shapes: N images of one process, C classes, R residual branches.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micl_bench.engine.supervised.augment import LabelledBatch
from micl_bench.engine.supervised.drop_path import DropPaths
from micl_bench.engine.supervised.mixing import Mixing
from micl_bench.runs.optim import set_rate
from micl_bench.runs.parallel import exchanging, gradient_norm
from micl_bench.runtime.distributed import mean

NUMBERS = ("loss", "gradient_norm")
"""What a step tells, in this order: means over processes."""


class SupervisedStep:
    """Updates a model in place."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        normalise: Callable[[Tensor], Tensor],
        mixing: Mixing,
        drop_paths: DropPaths,
        precision: str,
        micro_batch: int,
        clip_norm: float,
    ) -> None:
        self._model, self._optimizer, self._normalise = model, optimizer, normalise
        self._mixing, self._drop_paths, self._precision = mixing, drop_paths, precision
        self._micro_batch, self._clip_norm = micro_batch, clip_norm

    def __call__(self, batch: LabelledBatch, rate: float, *, first: int) -> Tensor:
        """The numbers named in `NUMBERS`, on the device.

        Args:
            first: place of the batch's first image among all that the epoch uses.
        """
        set_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        images_NCHW = self._normalise(batch.images)
        batch.erased.fill(images_NCHW)
        targets_NC = self._mixing(images_NCHW, batch.labels, epoch=batch.epoch, first=first)
        paths_RN = self._drop_paths.weights(batch.epoch, batch.index_N).to(images_NCHW.device)
        loss = self._backward(images_NCHW, targets_NC, paths_RN)
        norm = gradient_norm(self._model, clip_norm=self._clip_norm)
        self._optimizer.step()
        return mean(torch.stack([loss, norm]))

    def _backward(self, images_NCHW: Tensor, targets_NC: Tensor, paths_RN: Tensor) -> Tensor:
        """Add the gradient of the images' mean loss, a part of them at a time; returns that loss."""
        num_images = len(images_NCHW)
        size = min(self._micro_batch or num_images, num_images)
        total = images_NCHW.new_zeros(())
        for start in range(0, num_images, size):
            part = slice(start, start + size)
            last = start + size >= num_images
            self._drop_paths.give(paths_RN[:, part])
            with exchanging(self._model, last):
                logits_NC = self._logits(images_NCHW[part])
                loss = F.cross_entropy(logits_NC, targets_NC[part], reduction="sum") / num_images
                loss.backward()
            total += loss.detach()
        return total

    def _logits(self, images_NCHW: Tensor) -> Tensor:
        bf16 = self._precision == "bf16"
        with torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=bf16):
            logits_NC = self._model(images_NCHW)
        return logits_NC.float()
