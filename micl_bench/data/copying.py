"""Batches on the device, copied while it computes on the one before."""

from collections.abc import Generator, Iterator

import torch

from micl_bench.data.prefetch import prefetch
from micl_bench.data.visible import Visible


def device_batches(
    batches: Iterator[Visible], device: torch.device
) -> Generator[Visible, None, None]:
    """The same batches, made ahead and moved; on CUDA over a stream of their own."""
    if device.type != "cuda":
        yield from prefetch(batches)
        return
    copying = torch.cuda.Stream(device)
    ahead: tuple[Visible, torch.cuda.Event] | None = None
    for batch in prefetch(batches, prepare=Visible.pin_memory):
        with torch.cuda.stream(copying):
            following = batch.to(device), copying.record_event()
        if ahead is not None:
            yield _arrived(*ahead)
        ahead = following
    if ahead is not None:
        yield _arrived(*ahead)


def _arrived(batch: Visible, copied: torch.cuda.Event) -> Visible:
    computing = torch.cuda.current_stream()
    computing.wait_event(copied)
    # Their memory must not be given to the next copy while this stream still reads it.
    for tensor in batch.tensors():
        tensor.record_stream(computing)
    return batch
