"""A step's images, shared by processes and accumulated passes.

A config that names its total batch, `auto_scale_lr=dict(enable=False, base_batch_size=16)`, means the
same training on any number of processes: each gets a part, and `optim_wrapper.accumulative_counts`
passes make a step, so that a step is always one update of the weights. Without that key
`train_dataloader.batch_size` is a process's and an iteration is a pass, as in mmengine.
"""

import dataclasses
from collections.abc import Sequence

from mmengine.config import Config

from micl_bench.runtime.distributed import world_size
from micl_bench.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Batch:
    """How many images there are in a step, and in what parts they come."""

    total: int
    """Images of a step, over all processes and passes."""
    processes: int
    passes: int
    """Forward and backward passes of a process for each step."""
    counted: bool
    """Whether the config's iterations are steps; else they are passes."""

    @property
    def size(self) -> int:
        """Images of one pass of one process."""
        return self.total // (self.processes * self.passes)

    @property
    def passes_an_iteration(self) -> int:
        """How many passes the training loop makes before it counts one more."""
        return self.passes if self.counted else 1

    def steps(self, iterations: int) -> int:
        """Updates of the weights in so many iterations; what remains at the end is one more."""
        return iterations if self.counted else -(-iterations // self.passes)


def shared(config: Config, overrides: Sequence[str] = ()) -> Batch:
    """The batch of a config for the processes that there are; its `batch_size` is set to fit.

    Raises:
        InputError: the processes and passes do not divide it, or an override (`a.b=value`) sets the
            `batch_size` that the total is about to replace.
    """
    loader, processes = config.train_dataloader, world_size()
    for length in ("max_iters", "max_epochs"):
        if config.train_cfg.get(length) is not None:
            _whole(config.train_cfg[length], f"train_cfg.{length}")
    wrapper = config.get("optim_wrapper") or {}
    passes = _whole(wrapper.get("accumulative_counts", 1), "optim_wrapper.accumulative_counts")
    total = (config.get("auto_scale_lr") or {}).get("base_batch_size")
    if total is None:
        size = _whole(loader.get("batch_size"), "train_dataloader.batch_size")
        return Batch(size * processes * passes, processes, passes, counted=False)
    total = _whole(total, "auto_scale_lr.base_batch_size")
    if any(override.startswith("train_dataloader.batch_size=") for override in overrides):
        raise InputError(
            f"the config names its batch over all processes, {total}, so train_dataloader.batch_size "
            "would change nothing: --set auto_scale_lr.base_batch_size=... instead"
        )
    if total % (processes * passes):
        fitting = [str(n) for n in range(1, total + 1) if total % (n * passes) == 0]
        raise InputError(
            f"a batch of {total} images is not divided by {processes} processes x {passes} passes "
            f"(optim_wrapper.accumulative_counts); with {passes} passes, numbers of processes that "
            f"fit: {', '.join(fitting) or 'none'}"
        )
    batch = Batch(total, processes, passes, counted=_by_iteration(config))
    loader.batch_size = batch.size
    return batch


def _by_iteration(config: Config) -> bool:
    loop = config.train_cfg
    return str(loop.get("type", "")).endswith("IterBasedTrainLoop") or loop.get("by_epoch") is False


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; a whole number from 1 on is needed")
    return value
