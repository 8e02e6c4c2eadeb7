"""Libraries that draw from global generators, made functions of (seed, epoch, index)."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from micl_bench.runtime.randomness import Stream, words

# The generators are the process's, and batches are made in a thread beside the training loop.
_BORROWED = threading.Lock()


@contextmanager
def seeded(seed: int, epoch: int, index: int, *, stream: Stream) -> Iterator[None]:
    """Inside, python's, numpy's and torch's (CPU) generators start at a function of the arguments;
    afterwards they are as they were."""
    first, second, third = words(seed, epoch, np.array([index]), stream=stream, count=3)[0].tolist()
    # Not torch.manual_seed, which also reaches for every GPU.
    generator = torch.default_generator
    with _BORROWED:
        before = random.getstate(), np.random.get_state(), generator.get_state()
        random.seed(first)
        np.random.seed([second & 0xFFFFFFFF, second >> 32])
        generator.manual_seed(third >> 1)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            generator.set_state(before[2])
