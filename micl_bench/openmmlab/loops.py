"""mmengine's loops: training that begins at any step and draws by the step, and evaluation of each image
on its own.

Against mmengine's own: an iteration may be several passes, the last step is always followed by an
evaluation, and every random number is a function of seed, step and process, so that nothing of a
generator has to be kept. The model of the first process is the one that is evaluated: batch norm's
running statistics, which each process makes of its own images, are brought to the others before.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, ValLoop
from mmengine.runner.amp import autocast
from torch import nn
from torch.utils.data import DataLoader

from micl_bench.openmmlab.find_vit import unwrapped
from micl_bench.openmmlab.sampling import Passes, placed
from micl_bench.runtime.distributed import rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream, words

AfterStep = Callable[[Runner], None]


def build_loop(
    runner: Runner, config: dict[str, Any], *, passes: int, after_step: AfterStep
) -> "IterLoop | EpochLoop":
    """The loop that a `train_cfg` asks for.

    Args:
        passes: forward and backward passes of each iteration.
        after_step: called where an iteration is over and all that it moves has moved, before an
            evaluation; it may raise to end the run.

    Raises:
        InputError: another loop than mmengine's two.
    """
    options = dict(config)
    kind = str(options.pop("type", "")).rpartition(".")[2]
    by_epoch = options.pop("by_epoch", None)
    # mmengine's mark of a part that another library's config brought in by `_base_`.
    options.pop("_scope_", None)
    kinds = {"IterBasedTrainLoop": False, "EpochBasedTrainLoop": True}
    if kind in kinds:
        by_epoch = kinds[kind]
    if kind not in ("", *kinds) or by_epoch is None:
        raise InputError(
            f"train_cfg.type is {kind or 'not set'}; known: {', '.join(kinds)}, which run here so that "
            "they can go on from any step"
        )
    options |= {"runner": runner, "dataloader": runner._train_dataloader, "after_step": after_step}
    return EpochLoop(**options) if by_epoch else IterLoop(**options, passes=passes)


class ImageLoop(ValLoop):
    """`ValLoop` that takes each image of a batch through the network on its own.

    Libraries pad images to the largest of their batch, and a product's rounding depends on its shape:
    otherwise a number would depend on how many images are read at a time, and on how many processes
    share them.
    """

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Evaluate the images of one batch."""
        step = {"batch_idx": idx, "data_batch": data_batch}
        self.runner.call_hook("before_val_iter", **step)
        outputs: list[Any] = []
        with autocast(enabled=self.fp16):
            for image in _images(data_batch):
                outputs += self.runner.model.val_step(image)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook("after_val_iter", **step, outputs=outputs)


class IterLoop(IterBasedTrainLoop):
    """`IterBasedTrainLoop` that begins at `_iter`."""

    dataloader: DataLoader[Any]

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        *,
        passes: int,
        after_step: AfterStep,
        **options: Any,
    ) -> None:
        super().__init__(runner, dataloader, **options)
        self._passes, self._after_step = passes, after_step
        self.dataloader = placed(self.dataloader, seed=runner.seed, endless=True)

    def run(self) -> nn.Module:
        """Train to the end, and evaluate where it is due."""
        runner = self.runner
        runner.optim_wrapper.initialize_count_status(
            runner.model, self._iter * self._passes, self._max_iters * self._passes
        )
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        if self._iter and self.due(self._iter):
            evaluate(runner)
        if self._iter < self._max_iters:
            self._train()
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def due(self, step: int) -> bool:
        """Whether the model is evaluated after that many iterations."""
        regular = step >= self.val_begin and step % self.val_interval == 0
        return regular or step == self._max_iters

    @property
    def evaluations_left(self) -> int:
        """From here to the end, one that is due now included."""
        steps = range(max(self._iter, 1), self._max_iters + 1)
        return sum(map(self.due, steps))

    def _train(self) -> None:
        _passes_of(self.dataloader).begin(self._iter * self._passes)
        batches = iter(self.dataloader)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter([next(batches) for _ in range(self._passes)])
            self._after_step(self.runner)
            self._decide_current_val_interval()
            if self.due(self._iter):
                evaluate(self.runner)

    def run_iter(self, data_batch: Any) -> None:
        """One iteration over the batches of its passes."""
        step = {"batch_idx": self._iter, "data_batch": data_batch[0]}
        self.runner.call_hook("before_train_iter", **step)
        _seed(self.runner.seed, self._iter)
        outputs = [_pass(self.runner, batch) for batch in data_batch]
        means = outputs[0] if self._passes == 1 else _means(outputs)
        self.runner.call_hook("after_train_iter", **step, outputs=means)
        self._iter += 1


class EpochLoop(EpochBasedTrainLoop):
    """`EpochBasedTrainLoop` that begins at `_iter`."""

    dataloader: DataLoader[Any]

    def __init__(
        self, runner: Runner, dataloader: Any, *, after_step: AfterStep, **options: Any
    ) -> None:
        super().__init__(runner, dataloader, **options)
        self._after_step = after_step
        self.dataloader = placed(self.dataloader, seed=runner.seed, endless=False)

    def run(self) -> nn.Module:
        """Train to the end, and evaluate where it is due."""
        runner = self.runner
        self._epoch = self._iter // len(self.dataloader)
        runner.call_hook("before_train")
        if self._iter and self._iter % len(self.dataloader) == 0 and self.due(self._epoch):
            evaluate(runner)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._after_step(runner)
            self._decide_current_val_interval()
            if self.due(self._epoch):
                evaluate(runner)
        runner.call_hook("after_train")
        return runner.model

    def run_epoch(self) -> None:
        """The epoch's iterations from `_iter` on."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        _passes_of(self.dataloader).begin(self._iter, skip=done)
        for number, batch in enumerate(self.dataloader, done):
            self.run_iter(number, batch)
            # After the last one the epoch's own hooks come first.
            if number + 1 < len(self.dataloader):
                self._after_step(self.runner)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One iteration."""
        step = {"batch_idx": idx, "data_batch": data_batch}
        self.runner.call_hook("before_train_iter", **step)
        _seed(self.runner.seed, self._iter)
        outputs = _pass(self.runner, data_batch)
        self.runner.call_hook("after_train_iter", **step, outputs=outputs)
        self._iter += 1

    def due(self, epoch: int) -> bool:
        """Whether the model is evaluated after that many epochs."""
        regular = epoch >= self.val_begin and epoch % self.val_interval == 0
        return regular or epoch == self._max_epochs

    @property
    def evaluations_left(self) -> int:
        """From here to the end, one that is due now included."""
        epochs = range(max(self._iter // len(self.dataloader), 1), self._max_epochs + 1)
        return sum(map(self.due, epochs))


def evaluate(runner: Runner) -> None:
    """Run the validation loop on the first process's model."""
    if world_size() > 1:
        for buffer in unwrapped(runner.model).buffers():
            broadcast(buffer)
    runner.val_loop.run()


def _passes_of(loader: Any) -> Passes:
    assert isinstance(loader.batch_sampler, Passes)
    return loader.batch_sampler


def _images(batch: Any) -> Iterator[Any]:
    """Each image of a batch, which holds several things of each, as a batch of its own.

    Where images come in variants (several scales), each thing is a list of variants, and each of these
    a list of images.
    """
    in_variants = all(isinstance(parts[0], list | tuple) for parts in batch.values())
    if in_variants:
        lengths = {len(variant) for parts in batch.values() for variant in parts}
    else:
        lengths = {len(parts) for parts in batch.values()}
    if len(lengths) != 1:
        raise InputError(
            "val_dataloader.collate_fn makes batches whose parts differ in length; leave it out"
        )
    for number in range(lengths.pop()):
        one = slice(number, number + 1)
        yield {
            name: [variant[one] for variant in parts] if in_variants else parts[one]
            for name, parts in batch.items()
        }


def _pass(runner: Runner, batch: Any) -> dict[str, Any]:
    return runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)


def _means(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(each[name] for each in outputs) / len(outputs) for name in outputs[0]}


def _seed(seed: int, step: int) -> None:
    """Start the generators of dropout, drop path and the heads' samplers for one iteration."""
    first, second, third = words(seed, step, np.array([rank()]), stream=Stream.PATHS, count=3)[
        0
    ].tolist()
    random.seed(first)
    np.random.seed([second & 0xFFFFFFFF, second >> 32])
    torch.manual_seed(third >> 1)
