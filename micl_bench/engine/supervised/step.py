"""One step of supervised training: augmented pixels to logits, loss, gradient, update.

Stochastic depth (Huang et al. 2016) has draws that belong to images, not to a generator's state. timm's
`DropPath` draws from the global generator for whatever batch it gets: another number of processes,
another micro-batch or a restart gives other draws. Here each image of each epoch has its own, and the
network is told which images it gets.

Shapes: N images of one process, C classes, R residual branches.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.layers import DropPath
from torch import Tensor, nn

from micl_bench.engine.supervised.augment import LabelledBatch
from micl_bench.engine.supervised.mixing import Mixing
from micl_bench.runs.optim import set_rate
from micl_bench.runs.parallel import exchanging, gradient_norm
from micl_bench.runtime.distributed import mean
from micl_bench.runtime.randomness import Stream, uniforms

NUMBERS = ("loss", "gradient_norm")
"""What a step gives, in this order: means over processes."""


class GivenPaths(nn.Module):
    """A residual branch that is left out for some images; kept ones are scaled up to compensate.

    In evaluation it is the identity.
    """

    def __init__(self, drop_probability: float) -> None:
        super().__init__()
        self.drop_probability = drop_probability
        self.weight_N = torch.empty(0)

    def forward(self, x_NTD: Tensor) -> Tensor:
        """The branch's output, times 0 or 1 / (1 - probability) by image."""
        if not self.training:
            return x_NTD
        return x_NTD * self.weight_N.to(x_NTD.dtype).view(-1, *[1] * (x_NTD.ndim - 1))


class DropPaths:
    """Takes the place of every `DropPath` of a model."""

    def __init__(self, model: nn.Module, *, seed: int) -> None:
        self._seed = seed
        self._paths: list[GivenPaths] = []
        for name, module in list(model.named_modules()):
            if isinstance(module, DropPath):
                paths = GivenPaths(module.drop_prob)
                model.set_submodule(name, paths)
                self._paths.append(paths)

    def weights(self, epoch: int, index_N: NDArray[np.integer]) -> Tensor:
        """weights_RN of images in an epoch: 0, or 1 / (1 - probability); fp32."""
        count = len(self._paths)
        drawn_NR = uniforms(self._seed, epoch, index_N, stream=Stream.PATHS, count=max(1, count))
        dropped_R = np.array([paths.drop_probability for paths in self._paths])
        kept_NR = drawn_NR[:, :count] >= dropped_R
        return torch.from_numpy((kept_NR / (1 - dropped_R)).T.astype(np.float32).copy())

    def give(self, weights_RN: Tensor) -> None:
        """Say what the next forward pass does with its images."""
        for paths, weight_N in zip(self._paths, weights_RN, strict=True):
            paths.weight_N = weight_N


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
        batch.erase(images_NCHW)
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
