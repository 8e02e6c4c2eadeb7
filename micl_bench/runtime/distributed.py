"""Processes that train together: rank, world size, gathering with gradient.

Every function is the identity, or says "one process", where there is one. Processes are started by
torchrun, or by anything else that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.processes import end_with_parent

_control: Any = None
_LONGEST_REASON = 200


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Join the other processes for the time of a `with` block; yields this process's device."""
    global _control
    # Once a process has set its threads, MKL uses them all; before, it may take fewer and round sums
    # in another way. Set here, a run gives the same bits whatever ran in its process before.
    torch.set_num_threads(torch.get_num_threads())
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    # Also where a run of one process is started by torchrun, so that FSDP has its group.
    if "WORLD_SIZE" not in os.environ:
        yield device
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # torchrun that is killed takes nobody along.
        end_with_parent()
    try:
        dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
        # Agreements between hosts must not wait for what is queued on the device.
        _control = dist.new_group(backend="gloo")
        yield device
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError) or not (reason := _lost(error)):
            raise
        raise InputError(reason) from error
    finally:
        _control = None
        if dist.is_initialized():
            dist.destroy_process_group()


_ENDED = ("connection closed", "connection reset", "broken pipe", "connection refused")
_NO_ANSWER = ("timed out", "timeout", "wait timeout")
_UNREACHED = ("environment variable", "address already in use", "failed to connect", "hostname")


def _lost(error: Exception) -> str:
    """Say in one line what kept the processes from going on together; empty for any other error."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    words = text.lower()
    of_torch = isinstance(error, dist.DistError) or "gloo" in words or "rendezvous" in words
    if not of_torch:
        return ""
    if any(word in words for word in _UNREACHED):
        return f"the processes that train together did not find each other: {text}"
    if any(word in words for word in _ENDED):
        return "another of the processes that work together ended early; its own line says why"
    if any(word in words for word in _NO_ANSWER):
        return f"another of the processes that work together does not answer: {text}"
    return f"the processes that work together cannot go on: {text}"


def rank() -> int:
    """Return the number of this process among all, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def any_process(flag: bool) -> bool:
    """Return True, in all processes, where any process says yes."""
    if world_size() == 1:
        return flag
    count = torch.tensor(int(flag))
    dist.all_reduce(count, group=_control)
    return bool(count)


def from_first(value: Any) -> Any:
    """Return the first process's value of a plain object."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_control)
    return box[0]


def mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over processes, without gradient."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def collect_rows(rows_nD: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of ranks, on the first one's CPU.

    Elsewhere the tensor is empty. All processes have the same n.
    """
    rows_nD = rows_nD.cpu().contiguous()
    if world_size() == 1:
        return rows_nD
    gathered = [torch.empty_like(rows_nD) for _ in range(world_size())] if rank() == 0 else None
    dist.gather(rows_nD, gathered, dst=0, group=_control)
    return torch.cat(gathered) if gathered else rows_nD[:0]


def collect_objects(value: Any) -> list[Any]:
    """Return the plain objects of all processes, in the order of ranks, on the first; elsewhere none."""
    if world_size() == 1:
        return [value]
    boxes = [None] * world_size() if rank() == 0 else None
    dist.gather_object(value, boxes, dst=0, group=_control)
    return boxes or []


def all_rows(rows_nD: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of ranks, on every process's CPU, without gradient.

    n may differ, and be 0 on any process but the first, whose rows set type and width.
    """
    rows_nD = rows_nD.cpu().contiguous()
    if world_size() == 1:
        return rows_nD
    counts = [0] * world_size()
    dist.all_gather_object(counts, len(rows_nD), group=_control)
    width, dtype = from_first((tuple(rows_nD.shape[1:]), rows_nD.dtype))
    parts = []
    for source, count in enumerate(counts):
        own = source == rank() and count
        part = rows_nD if own else torch.empty((count, *width), dtype=dtype)
        if count:
            dist.broadcast(part, src=source, group=_control)
        parts.append(part)
    return torch.cat(parts)


def gather_rows(rows_nD: Tensor) -> Tensor:
    """Return the rows of all processes in the order of ranks, with gradient; n is the same everywhere.

    The gradient of a process's rows is the sum of what every process's loss says of them.
    """
    return _GatherRows.apply(rows_nD) if world_size() > 1 else rows_nD


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows_nD: Tensor) -> Tensor:
        gathered = [torch.empty_like(rows_nD) for _ in range(world_size())]
        dist.all_gather(gathered, rows_nD.contiguous())
        context.own = slice(rank() * len(rows_nD), (rank() + 1) * len(rows_nD))
        return torch.cat(gathered)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total_ND = gradients[0].clone()
        dist.all_reduce(total_ND)
        return total_ND[context.own]


def total(value: Tensor) -> Tensor:
    """Return the sum of a tensor over processes, with gradient.

    The gradient of a process's part is the sum of what every process's loss says of the total.
    """
    # Where operations are counted, on tensors without numbers, each process is alone.
    return value if world_size() == 1 or value.is_meta else _Total.apply(value)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient
