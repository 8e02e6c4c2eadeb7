"""mmengine's loops: training that begins at any step and draws by the step, and evaluation of each image
on its own.

Against mmengine's own: an iteration may be several passes, the last step is always followed by an
evaluation, and every random number is a function of seed, step and process, so that nothing of a
generator has to be kept. The model of the first process is the one that is evaluated: batch norm's
running statistics, which each process makes of its own images, are brought to the others before.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, ValLoop
from mmengine.runner.amp import autocast
from torch import nn

from micl_bench.openmmlab.sampling import placed
from micl_bench.openmmlab.vit import unwrapped
from micl_bench.runtime.distributed import rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream, words

AfterStep = Callable[[Runner], None]


def build_loop(
    runner: Runner, config: dict[str, Any], *, passes: int, after_step: AfterStep
) -> "IterLoop | EpochLoop":
    """Build the loop that a `train_cfg` asks for.

    Args:
        passes: forward and backward passes of each iteration.
        after_step: called after each iteration, before an evaluation; it may raise to end the run.

    Raises:
        InputError: another loop than mmengine's two.
    """
    options = dict(config)
    kind = str(options.pop("type", "")).rpartition(".")[2]
    by_epoch = options.pop("by_epoch", None)
    # mmengine's mark of a part that another library's config brought in by `_base_`.
    options.pop("_scope_", None)
    kinds = {"IterBasedTrainLoop": False, "EpochBasedTrainLoop": True}
    by_epoch = kinds.get(kind, by_epoch)
    if kind not in ("", *kinds) or by_epoch is None:
        raise InputError(
            f"train_cfg.type is {kind or 'not set'}; known: {', '.join(kinds)}, which run here so that "
            "they can go on from any step"
        )
    loop: Any = (EpochLoop if by_epoch else IterLoop)(runner, runner._train_dataloader, **options)
    loop.dataloader = placed(loop.dataloader, seed=runner.seed, endless=not by_epoch)
    if by_epoch:
        loop.unit = len(loop.dataloader)
    else:
        loop.passes = passes
    loop.after_step = after_step
    return loop


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


class _FromAnyStep:
    """The common part of both training loops: they begin at `_iter`, and evaluate after whole units."""

    runner: Any
    dataloader: Any
    after_step: AfterStep
    passes = 1
    unit = 1
    """Iterations per unit in which evaluations are counted: an iteration or an epoch."""
    val_begin: int
    val_interval: int
    _iter: int
    _max_iters: int

    @property
    def evaluations_left(self) -> int:
        """Number of evaluations from here to the end, with one that is due now."""
        first, last = max(self._iter // self.unit, 1), self._max_iters // self.unit
        return sum(map(self._due, range(first, last + 1)))

    def _due(self, number: int) -> bool:
        regular = number >= self.val_begin and number % self.val_interval == 0
        return regular or number == self._max_iters // self.unit

    def _evaluate_if_due(self) -> None:
        """Evaluate the first process's model."""
        number, rest = divmod(self._iter, self.unit)
        if rest or not number or not self._due(number):
            return
        if world_size() > 1:
            for buffer in unwrapped(self.runner.model).buffers():
                broadcast(buffer)
        self.runner.val_loop.run()

    def _step(self, number: int, batches: Sequence[Any]) -> None:
        """One iteration over the batches of its passes."""
        runner = self.runner
        step = {"batch_idx": number, "data_batch": batches[0]}
        runner.call_hook("before_train_iter", **step)
        _seed(runner.seed, self._iter)
        outputs = [runner.model.train_step(b, optim_wrapper=runner.optim_wrapper) for b in batches]
        means = outputs[0]
        if len(outputs) > 1:
            means = {name: sum(each[name] for each in outputs) / len(outputs) for name in means}
        runner.call_hook("after_train_iter", **step, outputs=means)
        self._iter += 1


class IterLoop(_FromAnyStep, IterBasedTrainLoop):
    """`IterBasedTrainLoop` that begins at `_iter`."""

    def run(self) -> nn.Module:
        """Train to the end, and evaluate where it is due."""
        runner = self.runner
        runner.optim_wrapper.initialize_count_status(
            runner.model, self._iter * self.passes, self._max_iters * self.passes
        )
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        self._evaluate_if_due()
        if self._iter < self._max_iters:
            self.dataloader.batch_sampler.begin(self._iter * self.passes)
            batches = iter(self.dataloader)
            while self._iter < self._max_iters and not self.stop_training:
                runner.model.train()
                self._step(self._iter, [next(batches) for _ in range(self.passes)])
                self.after_step(runner)
                self._decide_current_val_interval()
                self._evaluate_if_due()
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model


class EpochLoop(_FromAnyStep, EpochBasedTrainLoop):
    """`EpochBasedTrainLoop` that begins at `_iter`."""

    def run(self) -> nn.Module:
        """Train to the end, and evaluate where it is due."""
        runner = self.runner
        self._epoch = self._iter // self.unit
        runner.call_hook("before_train")
        self._evaluate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self.after_step(runner)
            self._decide_current_val_interval()
            self._evaluate_if_due()
        runner.call_hook("after_train")
        return runner.model

    def run_epoch(self) -> None:
        """Run the epoch's iterations from `_iter` on."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * self.unit
        self.dataloader.batch_sampler.begin(self._iter, skip=done)
        for number, batch in enumerate(self.dataloader, done):
            self._step(number, [batch])
            # After the last one the epoch's own hooks come first.
            if number + 1 < self.unit:
                self.after_step(self.runner)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


def _images(batch: Any) -> Iterator[Any]:
    """Each image of a batch, with all that the batch holds of it, as a batch of its own.

    Where images come in variants (several scales), each thing is a list of variants, and each of these
    a list of images.
    """
    in_variants = all(isinstance(parts[0], list | tuple) for parts in batch.values())
    per_image = [
        variant for parts in batch.values() for variant in (parts if in_variants else [parts])
    ]
    lengths = {len(parts) for parts in per_image}
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


def _seed(seed: int, step: int) -> None:
    """Start the generators of dropout, drop path and the heads' samplers for one iteration."""
    drawn = words(seed, step, np.array([rank()]), stream=Stream.PATHS, count=3)
    first, second, third = drawn[0].tolist()
    random.seed(first)
    np.random.seed([second & 0xFFFFFFFF, second >> 32])
    torch.manual_seed(third >> 1)
