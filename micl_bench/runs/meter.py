"""The speed of a run: images/s, time spent waiting for data, and the share of the machine in use."""

import resource
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")

Product = Callable[[Tensor, Tensor], Tensor]

_WINDOW = 50
_SECONDS_A_PRODUCT = 0.1
_LINEAR_PRODUCTS: list[Product] = [
    F.linear,
    # By its input: the gradient of the output times the weight.
    torch.mm,
    # By its weight: the gradient of the output, turned, times the input.
    lambda left, right: left.T @ right,
]
"""A linear layer's forward product, and those of its two gradients."""


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the best of some large square matrix products on this device, right now.

    The products are those of a linear layer, forward and backward, whose kernels may differ by far:
    on a CPU without bfloat16 instructions those of the two gradients were 25 times apart, and a step
    measured by the slower one reached several times the "peak".
    """
    cuda = device.type == "cuda"
    forms, best = _LINEAR_PRODUCTS, 0.0
    for size in (4096, 8192) if cuda else (256, 512, 1024):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        speeds = [_speed(form, left, right, repeats=10 if cuda else 1) for form in forms]
        best = max(best, *speeds)
        # What is slow already takes the longest at the next size.
        fast = max(speeds) / 2
        forms = [form for form, speed in zip(forms, speeds, strict=True) if speed > fast]
    return best


def _speed(form: Product, left: Tensor, right: Tensor, *, repeats: int) -> float:
    """FLOP/s: the best of some tries is what nobody interrupted."""
    # The first one of all may load its kernels.
    form(left, right)
    settle(left.device)
    best, end = float("inf"), time.perf_counter() + _SECONDS_A_PRODUCT
    while True:
        settle(left.device)
        start = time.perf_counter()
        for _ in range(repeats):
            form(left, right)
        settle(left.device)
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return repeats * 2 * len(left) ** 3 / best


def settle(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> tuple[float, str]:
    """MiB that this process had at most, and of what: the device's, or all of it on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20, "allocated on one device"
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, "resident, of one process"


class Meter:
    """Speed over the last steps; what happens between `pause` and the next step does not count.

    Example:
        for batch in meter.waiting_for(batches):
            ...
            meter.step(num_images)
    """

    def __init__(self, *, flop_per_image: float = 0.0, peak: float = 1.0) -> None:
        self._flop, self.peak = flop_per_image, peak
        self._steps: deque[tuple[float, float, float]] = deque(maxlen=_WINDOW)
        self._waited, self._last = 0.0, time.perf_counter()
        self.busy_seconds = 0.0

    def waiting_for(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield the batches; the time until each comes counts as waiting for data."""
        start = time.perf_counter()
        for batch in batches:
            self._waited += time.perf_counter() - start
            yield batch
            start = time.perf_counter()

    def step(self, num_images: float) -> None:
        """Count one step."""
        now = time.perf_counter()
        self._steps.append((now - self._last, self._waited, num_images))
        self.busy_seconds += now - self._last
        self._waited, self._last = 0.0, now

    def pause(self) -> None:
        """Leave out the time since the last step: a check, or a save."""
        self._waited, self._last = 0.0, time.perf_counter()

    @property
    def images_per_second(self) -> float:
        """Images per second of this process."""
        return sum(images for _, _, images in self._steps) / self._seconds

    @property
    def data_wait(self) -> float:
        """Share of the time spent waiting for data."""
        return sum(waited for _, waited, _ in self._steps) / self._seconds

    @property
    def mfu(self) -> float:
        """Share of the machine's matrix-product peak that the model's own FLOP make up; 0 where they are
        not known."""
        return self.images_per_second * self._flop / self.peak

    @property
    def _seconds(self) -> float:
        return sum(seconds for seconds, _, _ in self._steps) or float("inf")
