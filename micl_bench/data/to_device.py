"""Batches on the device, copied while it computes on the one before."""

from collections.abc import Generator, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from micl_bench.data.prefetch import prefetch


class Movable(Protocol):
    """A batch that can be copied to a device."""

    def pin_memory(self) -> Any:
        """The same in page-locked memory."""

    def to(self, device: torch.device) -> Any:
        """Copied to a device, without waiting where the memory is pinned."""

    def tensors(self) -> tuple[Tensor, ...]:
        """All that the device computes with."""


Batch = TypeVar("Batch", bound=Movable)


def device_batches(batches: Iterator[Batch], device: torch.device) -> Generator[Batch, None, None]:
    """The same batches, made ahead and moved; on CUDA over a stream of their own."""
    if device.type != "cuda":
        yield from prefetch(batches)
        return
    copying = torch.cuda.Stream(device)
    ahead: tuple[Batch, torch.cuda.Event] | None = None
    for batch in prefetch(batches, prepare=lambda batch: batch.pin_memory()):
        with torch.cuda.stream(copying):
            following = batch.to(device), copying.record_event()
        if ahead is not None:
            yield _arrived(*ahead)
        ahead = following
    if ahead is not None:
        yield _arrived(*ahead)


def _arrived(batch: Batch, copied: torch.cuda.Event) -> Batch:
    computing = torch.cuda.current_stream()
    computing.wait_event(copied)
    # Their memory must not be given to the next copy while this stream still reads it.
    for tensor in batch.tensors():
        tensor.record_stream(computing)
    return batch
