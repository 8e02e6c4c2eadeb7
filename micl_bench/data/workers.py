"""Processes that read images: torch's loader, which cannot wait for ever for one of them.

torch sends batches through shared memory (/dev/shm). Where that is full, a worker of torch's own prints
a trace, drops the batch and lives on, and the program waits for that batch for ever.
"""

import functools
import multiprocessing.queues
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info

from micl_bench.data.to_device import tensors_of
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.processes import (
    NO_FILES,
    NO_ROOM,
    NOT_SENT,
    SHARED,
    Patience,
    begin_helper,
    how_it_ended,
    starting,
)

_AHEAD = 2
"""Batches that each process makes ahead; torch's default."""
_LONGEST_WAIT_SECONDS = 1800.0
_LOOK_SECONDS = 5.0


class Loader(DataLoader[Any]):
    """torch's loader; its processes end with this one, and their failure is one line.

    Iterating raises an InputError where an image cannot be read, /dev/shm has no room, a process was
    killed, or none answers for half an hour.
    """

    def __init__(self, dataset: Any, *, num_workers: int = 0, **options: Any) -> None:
        # torch draws a seed as an iteration begins: not from the process's generator, which another
        # thread may have borrowed for an image's draws.
        options.setdefault("generator", torch.Generator())
        super().__init__(dataset, num_workers=num_workers, **options)
        if num_workers:
            self.collate_fn = _Sent(self.collate_fn)
            self.worker_init_fn = functools.partial(_begin, self.worker_init_fn)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        workers: Sequence[Any] = ()
        batches: Any = None
        try:
            if not self.num_workers:
                yield from super().__iter__()
                return
            with starting(self.num_workers), _no_handler_left():
                batches = super().__iter__()
            workers = getattr(batches, "_workers", ())
            _bound(batches)
            yield from batches
        except InputError as error:
            # torch's traceback holds the loader in a cycle of references; when the garbage collector
            # ends it, its processes do not hear of it and are waited for, 5 seconds.
            error.__traceback__ = None
            # torch wraps the message of a worker process in that process's stack trace.
            raise InputError(str(error).rpartition("InputError: ")[2].strip()) from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            error.__traceback__ = None
            raise InputError(_failure(workers)) from error
        finally:
            # An exception keeps this frame: its processes end now, whoever keeps the exception.
            batches = None


@contextmanager
def _no_handler_left() -> Iterator[None]:
    """Take back torch's handler of SIGCHLD, which raises wherever the program is, at its exit too.

    Whoever waits for a batch looks every few seconds whether a process died.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _failure(workers: Sequence[Any]) -> str:
    codes = [worker.exitcode for worker in workers if worker.exitcode]
    return f"a process that reads images {how_it_ended(codes[0] if codes else None)}"


def _bound(batches: Any) -> None:
    """Make a loader give up after many looks for a batch; after each, torch checks its workers."""
    look = getattr(type(batches), "_try_get_data", None)
    if look is None:
        return
    # Not the loader itself, which would never end: it would hold what holds it.
    loader = weakref.proxy(batches)
    patience = Patience(_LONGEST_WAIT_SECONDS, every=_LOOK_SECONDS)

    def bounded(*arguments: Any, **named: Any) -> Any:
        if not (arguments or named):
            arguments = (_LOOK_SECONDS,)
        found = look(loader, *arguments, **named)
        if found[0]:
            patience.begin_again()
        elif patience.ends():
            raise InputError(
                f"no worker has sent a batch for {_LONGEST_WAIT_SECONDS / 60:g} minutes: the disk does "
                "not answer, or the workers hang; try num_workers=0"
            )
        return found

    batches._try_get_data = bounded


def begin_worker() -> None:
    """Let a process of a loader end with its parent, or where a batch cannot be sent."""
    begin_helper(leaves_at_interrupt=False)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_not_sent)  # type: ignore


def _begin(own: Callable[[int], None] | None, number: int) -> None:
    begin_worker()
    if own:
        own(number)


def _not_sent(error: BaseException, batch: object) -> None:
    """End this process, so that nobody waits for the batch that could not be sent."""
    text = str(error)
    if "No space left" in text or "Cannot allocate" in text:
        os._exit(NO_ROOM)
    os._exit(NO_FILES if "Too many open files" in text else NOT_SENT)


class _Sent:
    """A collate function that looks for room before a worker's first batch is sent."""

    def __init__(self, own: Callable[[Any], Any]) -> None:
        self._own, self._looked = own, False

    def __call__(self, items: Any) -> Any:
        batch = self._own(items)
        worker = get_worker_info()
        if worker and not self._looked and SHARED.is_dir():
            self._looked = True
            needed, free = (
                _AHEAD * sum(tensor.nbytes for tensor in tensors_of(batch)),
                shutil.disk_usage(SHARED).free,
            )
            if needed > free:
                raise InputError(
                    f"num_workers={worker.num_workers}: each of these processes keeps {_AHEAD} batches "
                    f"of {needed / _AHEAD / 1e6:,.1f} MB in {SHARED}, which has {free / 1e6:,.1f} MB "
                    "free; set num_workers=0 or lower, a smaller batch, or enlarge it (docker run "
                    "--shm-size)"
                )
        return batch
