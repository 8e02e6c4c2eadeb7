"""Stochastic depth (Huang et al. 2016) whose draws belong to images, not to a generator's state.

timm's `DropPath` draws from the global generator for any batch that it gets: another number of
processes, another micro-batch or a restart gives other draws. Here each image of each epoch has its
own, which the network gets before the images.

Shapes: N images, R residual branches.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import DropPath
from torch import Tensor, nn

from micl_bench.runtime.randomness import Stream, uniforms


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
        dropped_R = np.array([paths.drop_probability for paths in self._paths])
        return draw_paths(self._seed, epoch, index_N, dropped_R).T.contiguous()

    def give(self, weights_RN: Tensor) -> None:
        """Set the weights of the next forward pass."""
        for paths, weight_N in zip(self._paths, weights_RN, strict=True):
            paths.weight_N = weight_N


def branch_rates(depth: int, last: float) -> NDArray[np.floating]:
    """Probability that a branch is left out, rates_R: two branches a block, evenly from 0 in the first
    block to `last`, without those that never are."""
    rates = np.linspace(0, last, depth)
    return rates[rates > 0].repeat(2)


def take_paths(vit: nn.Module, last: float) -> None:
    """Let branches of a ViT's blocks be left out, with the probabilities of `branch_rates`."""
    blocks: Any = vit.blocks
    for block, rate in zip(blocks, np.linspace(0, last, len(blocks)), strict=True):
        if rate:
            block.drop_path1, block.drop_path2 = GivenPaths(rate), GivenPaths(rate)


def give_paths(vit: nn.Module, weights_NR: Tensor) -> None:
    """Set the weights of the next forward pass of a ViT that took paths."""
    paths = [module for module in vit.modules() if isinstance(module, GivenPaths)]
    for path, weight_N in zip(paths, weights_NR.T, strict=True):
        path.weight_N = weight_N


def draw_paths(
    seed: int, epoch: int, index_N: NDArray[np.integer], dropped_R: NDArray[np.floating]
) -> Tensor:
    """Draw weights_NR of images in an epoch: 0 with a branch's probability p, else 1 / (1 - p); fp32."""
    R = len(dropped_R)
    drawn_NR = uniforms(seed, epoch, index_N, stream=Stream.PATHS, count=max(1, R))[:, :R]
    return torch.from_numpy(((drawn_NR >= dropped_R) / (1 - dropped_R)).astype(np.float32))
