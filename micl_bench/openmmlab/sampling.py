"""The images of a step: shared by processes and passes, in an order and with draws of their own.

A config that names its total batch, `auto_scale_lr=dict(enable=False, base_batch_size=16)`, means the
same training on any number of processes: each gets a part, and `optim_wrapper.accumulative_counts`
passes make a step, so that a step is always one update of the weights. Without that key
`train_dataloader.batch_size` is a process's and an iteration is a pass, as in mmengine.

Order and draws are functions of seed and position in the run alone. Neither the number of loader
processes nor where a run was cut moves either, and several processes that share a batch augment each
image as one process does: position (m * b + j) * P + p is image j of b in pass m of process p of P,
which is its place in mmengine's endless stream of images.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader, Dataset, Sampler

from micl_bench.data.workers import Loader
from micl_bench.runs.seeded import seeded
from micl_bench.runtime.distributed import rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream
from micl_bench.runtime.values import Count, checked


@dataclasses.dataclass(frozen=True)
class Batch:
    """The number of images in a step, and the parts in which they come."""

    total: int
    """Images per step, over all processes and passes."""
    processes: int
    passes: int
    """Forward and backward passes of a process for each step."""
    counted: bool
    """True where the config's iterations are steps; else they are passes."""

    @property
    def size(self) -> int:
        """Images of one pass of one process."""
        return self.total // (self.processes * self.passes)

    def steps(self, iterations: int) -> int:
        """Updates of the weights in so many iterations; what remains at the end is one more."""
        return iterations if self.counted else -(-iterations // self.passes)


def shared(config: Config, overrides: Sequence[str] = ()) -> Batch:
    """The batch of a config for the processes that there are; its `batch_size` is set to fit.

    Raises:
        InputError: the processes and passes do not divide it, or an override (`a.b=value`) sets the
            `batch_size` that the total is about to replace.
    """
    loader, loop, processes = config.train_dataloader, config.train_cfg, world_size()
    passes = (config.get("optim_wrapper") or {}).get("accumulative_counts", 1)
    total = (config.get("auto_scale_lr") or {}).get("base_batch_size")
    if total is None:
        size = checked(Count, loader.get("batch_size"), "train_dataloader.batch_size")
        return Batch(size * processes * passes, processes, passes, counted=False)
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
    by_iteration = str(loop.get("type", "")).endswith("IterBasedTrainLoop")
    batch = Batch(total, processes, passes, by_iteration or loop.get("by_epoch") is False)
    loader.batch_size = batch.size
    return batch


class Placed(Dataset[Any]):
    """A data set whose items are asked for by (position, index), and drawn by the position."""

    def __init__(self, dataset: Any, *, seed: int) -> None:
        self.dataset, self._seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        position, index = place
        with seeded(self._seed, 0, position, stream=Stream.AUGMENT):
            return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        # Python's own names are not passed on: copies are asked for theirs before they have a data set.
        if name.startswith("__") or name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)


class Passes(Sampler[list[tuple[int, int]]]):
    """The batches of a sampler from any pass on, with the position of each image.

    To come to a pass, those before are drawn again as numbers; no image is looked at.
    """

    def __init__(self, batches: Any, *, batch_size: int, endless: bool) -> None:
        """`endless`: begin the next epoch by itself where one ends."""
        self.batches, self._size, self._endless = batches, batch_size, endless
        # mmengine sets the epoch of this one.
        self.sampler = batches.sampler
        if hasattr(batches, "_aspect_ratio_buckets"):
            self.sampler.dataset = _Sizes(self.sampler.dataset)
        self.begin(0)

    def begin(self, number: int, *, skip: int | None = None) -> None:
        """Let the next iteration begin with pass `number` of the run, of whose batches `skip` were
        drawn before; all of them if None."""
        self._first, self._skip = number, number if skip is None else skip

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batches = itertools.islice(self._epochs(), self._skip, None)
        for number, indices in enumerate(batches, self._first):
            first = number * self._size
            yield [
                ((first + place) * world_size() + rank(), index)
                for place, index in enumerate(indices)
            ]

    def __len__(self) -> int:
        return len(self.batches)

    def _epochs(self) -> Iterator[list[int]]:
        if not self._endless:
            # Some samplers never end by themselves.
            yield from itertools.islice(self.batches, len(self.batches))
            return
        for epoch in itertools.count():
            if hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            yield from self.batches


class _Sizes:
    """The data set of a sampler that asks for the sizes of images, each looked up once."""

    def __init__(self, dataset: Any) -> None:
        self._dataset, self._found = dataset, dict[int, dict[str, int]]()

    def __len__(self) -> int:
        return len(self._dataset)

    def get_data_info(self, index: int) -> dict[str, int]:
        if index not in self._found:
            info = self._dataset.get_data_info(index)
            self._found[index] = {name: info[name] for name in ("width", "height")}
        return self._found[index]


def placed(loader: DataLoader[Any], *, seed: int, endless: bool) -> DataLoader[Any]:
    """The same loader, with images and draws that depend on seed and position alone.

    Its `batch_sampler` is a `Passes`.
    """
    batches: Any = loader.batch_sampler
    if not endless and isinstance(loader.sampler, InfiniteSampler):
        raise InputError(
            "train_cfg counts epochs, but InfiniteSampler has none: --set "
            "train_dataloader.sampler.type=DefaultSampler"
        )
    passes = Passes(batches, batch_size=batches.batch_size, endless=endless)
    return Loader(
        Placed(loader.dataset, seed=seed),
        batch_sampler=passes,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
