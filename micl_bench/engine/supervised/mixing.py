"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), as timm mixes a batch.

timm draws once per batch and mixes image i with image N - 1 - i; training on many GPUs draws on each
for its own few images. Here a batch is cut into groups of fixed size, each with a draw of its own:
the same distribution, whatever the number of processes.

Shapes: N images, C classes.
"""

import dataclasses
from typing import Annotated

import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from torch import Tensor

from micl_bench.runs.seeded import seeded
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream
from micl_bench.runtime.values import LARGEST, NotNegative, Probability, Values, Within


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixConfig(Values):
    """The mixing of images and their labels. Defaults: those of MAE's fine-tuning."""

    mixup: NotNegative = 0.8
    """Alpha of the Beta distribution of shares; 0 for no mixup."""
    cutmix: NotNegative = 1.0
    """The same for the area of a box cut from another image; 0 for no CutMix."""
    probability: Probability = 1.0
    """Probability that a group is mixed at all."""
    switch_probability: Probability = 0.5
    """Probability of CutMix rather than mixup, where both are on."""
    group: Annotated[int, Within(2, LARGEST)] = 32
    """Images that share a draw, next to each other in the batch; MAE's GPUs had 32 (ViT-H: 16)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group % 2:
            raise InputError(f"group is {self.group}; images are mixed in pairs: make it even")

    @property
    def mixes(self) -> bool:
        """True where anything is mixed."""
        return self.probability > 0 and max(self.mixup, self.cutmix) > 0

    def effective(self) -> "MixConfig":
        """The same mixing, with values that have no effect set to their defaults."""
        if not self.mixes:
            return MixConfig(probability=0)
        if self.mixup and self.cutmix:
            return self
        return dataclasses.replace(self, switch_probability=MixConfig.switch_probability)

    def require_groups(self, *, batch_size: int, processes: int) -> None:
        """Raise an InputError unless groups fit into each process's share of a batch."""
        if not self.mixes:
            return
        if batch_size % 2:
            raise InputError(f"batch_size is {batch_size}; images are mixed in pairs: make it even")
        if processes > 1 and (share := batch_size // processes) % self.group:
            raise InputError(
                f"each of {processes} processes has {share} images per step, no multiple of "
                f"mix.group={self.group}; change batch_size, mix.group or the number of processes"
            )


class Mixing:
    """Mixes batches; every draw is a function of (seed, epoch, group of the epoch)."""

    def __init__(
        self, config: MixConfig, *, num_classes: int, label_smoothing: float, seed: int
    ) -> None:
        self._config, self._seed = config, seed
        self._num_classes, self._smoothing = num_classes, label_smoothing
        if config.mixes:
            self._mixup = Mixup(
                mixup_alpha=config.mixup,
                cutmix_alpha=config.cutmix,
                prob=config.probability,
                switch_prob=config.switch_probability,
                label_smoothing=label_smoothing,
                num_classes=num_classes,
            )

    def __call__(self, images_NCHW: Tensor, labels_N: Tensor, *, epoch: int, first: int) -> Tensor:
        """Mix images in place; returns targets_NC that sum to 1, smoothed. `first` is the place of these
        images' first among all that the epoch uses, in order."""
        if not self._config.mixes:
            sharp_NC = F.one_hot(labels_N, self._num_classes).float()
            return sharp_NC * (1 - self._smoothing) + self._smoothing / self._num_classes
        targets, size = [], self._config.group
        for start in range(0, len(labels_N), size):
            part = slice(start, start + size)
            with seeded(self._seed, epoch, first + start, stream=Stream.MIX):
                targets.append(self._mixup(images_NCHW[part], labels_N[part])[1])
        return torch.cat(targets)
