"""The precision a model is asked to compute at, and the one its products really had."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class PrecisionWatch:
    """The types that linear layers and convolutions of a model returned when each was first called."""

    def __init__(self, model: nn.Module, *, asked: str) -> None:
        self._asked, self._kinds = asked, set[str]()
        self._hooks: dict[nn.Module, RemovableHandle] = {
            module: module.register_forward_hook(self._note)
            for module in model.modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
        }

    def seen(self) -> str:
        """`fp32`, `bf16`, `fp16` or `tf32` (CUDA was allowed to round fp32 factors), several joined by
        `+`; empty as long as nothing ran.

        Raises:
            InputError: bf16 was asked for, and what ran did not run in it.
        """
        kinds = "+".join(sorted(self._kinds))
        if kinds and self._asked == "bf16" and "bf16" not in self._kinds:
            raise InputError(
                f"bf16 was asked for, but the model ran in {kinds}; set precision=fp32"
            )
        return kinds

    def stop(self) -> None:
        """Take the hooks off again."""
        for hook in self._hooks.values():
            hook.remove()

    def _note(self, module: nn.Module, _: object, output: Tensor) -> None:
        self._hooks[module].remove()
        kind = _NAMES.get(output.dtype, str(output.dtype))
        cuda = torch.backends.cuda.matmul if isinstance(module, nn.Linear) else torch.backends.cudnn
        if kind == "fp32" and output.is_cuda and cuda.allow_tf32:
            kind = "tf32"
        self._kinds.add(kind)


@contextmanager
def at_precision(
    precision: str, model: nn.Module, device: torch.device
) -> Iterator[PrecisionWatch]:
    """Let a model compute at a precision for the time of a `with` block, and watch it.

    `fp32` is fp32: CUDA may not round factors to TF32, which it does in convolutions by default.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before, threads = (matmul.allow_tf32, cudnn.allow_tf32), torch.get_num_threads()
    watch = PrecisionWatch(model, asked=precision)
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        if precision == "bf16" and device.type == "cpu":
            # CPU kernels for bfloat16 cut sums by the number of threads, and so the result's bits.
            torch.set_num_threads(1)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield watch
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
        torch.set_num_threads(threads)
        watch.stop()


def has_bfloat16(device: torch.device) -> bool:
    """Return True where the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    known = flags.read_text(encoding="utf-8").split() if flags.exists() else []
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(known))


def warn_of_emulation(precision: str, device: torch.device) -> None:
    """Say where bfloat16 is asked for of a device that computes it in software."""
    if precision == "bf16" and not has_bfloat16(device):
        say("warning: this device computes bfloat16 in software; precision=fp32 is faster")
