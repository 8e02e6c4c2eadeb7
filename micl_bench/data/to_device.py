"""Batches on the device: made ahead in a thread, copied while the device computes on the one before."""

import dataclasses
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_END = object()
_POLL_SECONDS = 0.1


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield every tensor in a batch of dataclasses, dictionaries, lists and tuples."""
    if isinstance(batch, Tensor):
        yield batch
    elif dataclasses.is_dataclass(batch):
        yield from tensors_of([getattr(batch, one.name) for one in dataclasses.fields(batch)])
    elif isinstance(batch, dict | list | tuple):
        for inner in batch.values() if isinstance(batch, dict) else batch:
            yield from tensors_of(inner)


def each_tensor(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the same batch of dataclasses and dictionaries, with every tensor in it changed."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, dict):
        return {name: each_tensor(value, change) for name, value in batch.items()}
    if not dataclasses.is_dataclass(batch) or isinstance(batch, type):
        return batch
    values = {one.name: getattr(batch, one.name) for one in dataclasses.fields(batch)}
    changed = {name: each_tensor(value, change) for name, value in values.items()}
    return dataclasses.replace(batch, **changed)


def device_batches(batches: Iterator[T], device: torch.device) -> Generator[T, None, None]:
    """Yield the same batches of dataclasses, made ahead, their tensors moved.

    On CUDA they move over a stream of their own.
    """
    if device.type != "cuda":
        yield from prefetch(batches)
        return
    copying = torch.cuda.Stream(device)
    ahead: tuple[T, torch.cuda.Event] | None = None
    # A device copies from page-locked memory while it computes.
    for batch in prefetch(batches, prepare=lambda one: each_tensor(one, Tensor.pin_memory)):
        with torch.cuda.stream(copying):
            copied = each_tensor(batch, lambda tensor: tensor.to(device, non_blocking=True))
            following = copied, copying.record_event()
        if ahead is not None:
            yield _arrived(*ahead)
        ahead = following
    if ahead is not None:
        yield _arrived(*ahead)


def _arrived(batch: T, copied: torch.cuda.Event) -> T:
    computing = torch.cuda.current_stream()
    computing.wait_event(copied)
    # Their memory must not be given to the next copy while this stream still reads it.
    for tensor in tensors_of(batch):
        tensor.record_stream(computing)
    return batch


def prefetch(
    batches: Iterator[T], *, depth: int = 2, prepare: Callable[[T], T] | None = None
) -> Iterator[T]:
    """Yield the same batches in the same order, up to `depth` of them made ahead.

    Copying and gathering run without Python's lock, beside the training step. An exception is raised
    where its batch would have come.

    Args:
        prepare: function that the thread applies to each batch, such as pinning its memory.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    left = threading.Event()

    def put(item: object) -> None:
        while not left.is_set():
            try:
                ready.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(prepare(batch) if prepare else batch)
                if left.is_set():
                    return
            put(_END)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        left.set()
        thread.join()
