"""Numbers of a step, read when they have arrived: a GPU is never waited for inside a step."""

from collections import deque
from typing import Any

import torch
from torch import Tensor

# One step is being computed, the next is queued behind it.
_LAG = 2


class Lagging:
    """A queue of small tensors on their way to the host; on a CPU they arrive at once."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._waiting: deque[tuple[Any, Tensor, Any]] = deque()

    def push(self, about: Any, values: Tensor) -> None:
        """Start copying the values of a step; `about` comes back with them."""
        if not self._cuda:
            self._waiting.append((about, values, None))
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._waiting.append((about, host, arrived))

    def ready(self, *, everything: bool = False) -> list[tuple[Any, list[float]]]:
        """What has arrived, oldest first; `everything` waits for the rest."""
        keep = _LAG if self._cuda and not everything else 0
        found = []
        while len(self._waiting) > keep:
            about, host, arrived = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            found.append((about, host.tolist()))
        return found
