"""The speed and memory of a ViT on the large images of dense tasks.

The backbone alone, forward and backward: every block attending to all patches (`plain`), or all but the
last of each quarter in windows of 14 x 14 (`windowed`, ViTDet's setting), each with and without
recomputing blocks in the backward pass (`checkpointed`), in fp32 and bf16; on a GPU compiled too. The
same weights and image in all cases, in turn, in one run; medians of rounds.

On a CPU each case runs once more in a process of its own, for its peak of memory.
"""

import dataclasses
import functools
import math
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from micl_bench.backbone import named_arch
from micl_bench.bench.machine import MIB, Peak, in_own_process, in_turn, this_device
from micl_bench.openmmlab import MiCLViT
from micl_bench.runs.meter import settle
from micl_bench.runtime.values import Count, Side, Values

_SEED = 0
_WINDOW = 14
_CASTS = {"fp32": None, "bf16": torch.bfloat16}

Step = Callable[[], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseSettings(Values):
    """The backbone that is measured, and its images."""

    arch: str = "vit_base_patch16_224"
    size: Side = 1024
    """Side of the images in pixels."""
    batch: Count = 1
    rounds: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        named_arch(self.arch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One way to run the backbone."""

    windowed: bool
    checkpointed: bool
    precision: str
    compiled: bool = False

    @property
    def name(self) -> str:
        """The name of the case, such as `windowed_checkpointed_bf16`."""
        parts = ["windowed" if self.windowed else "plain"]
        parts += ["checkpointed"] * self.checkpointed + [self.precision]
        return "_".join([*parts, *["compiled"] * self.compiled])


def cases(device: torch.device) -> list[Case]:
    """Return all cases that run on the device."""
    return [
        Case(windowed=windowed, checkpointed=checkpointed, precision=precision, compiled=compiled)
        for compiled in ((False, True) if device.type == "cuda" else (False,))
        for precision in _CASTS
        for checkpointed in (False, True)
        for windowed in (False, True)
    ]


def bench_dense(settings: DenseSettings, device: torch.device) -> list[dict[str, Any]]:
    """Measure images/s, peak memory and kernel of attention in each case; one that fails says why."""
    model, compiled = _backbone(settings, device, compiled=False), None
    if device.type == "cuda":
        compiled = _backbone(settings, device, compiled=True)
    steps = {
        case: _step(compiled if case.compiled else model, case, settings) for case in cases(device)
    }
    # What a compiled program calls does not pass where kernels are noted.
    kernels = {case: "" if case.compiled else _attention(step) for case, step in steps.items()}
    errors: dict[Case, str] = {}

    def seconds(case: Case) -> float:
        try:
            return math.nan if case in errors else _seconds(steps[case], device)
        except Exception as error:
            # What the compiler cannot do yet is no reason to lose the other figures.
            if not case.compiled:
                raise
            errors[case] = " ".join(str(error).split())[:200]
            return math.nan

    ways = {case.name: functools.partial(seconds, case) for case in steps}
    found = in_turn("bench dense", ways, rounds=settings.rounds)
    weights_mib = round(sum(parameter.nbytes for parameter in model.parameters()) / MIB)
    results = []
    for case, step in steps.items():
        result: dict[str, Any] = {"name": case.name, **dataclasses.asdict(case)}
        if case in errors:
            result["error"] = errors[case]
        else:
            speed = settings.batch / statistics.median(found[case.name])
            result["images_per_second"] = round(speed, 4)
            result["peak_memory_mib"] = _peak(settings, case, step, weights_mib)
            result["attention"] = kernels[case]
        results.append(result)
    return results


def _backbone(settings: DenseSettings, device: torch.device, *, compiled: bool) -> MiCLViT:
    """Build the backbone as ViTDet has it: one map, no [CLS], no final norm."""
    model = MiCLViT(
        f"random:{settings.arch}",
        seed=_SEED,
        img_size=settings.size,
        strides=(named_arch(settings.arch).patch_size,),
        final_norm=False,
        prefix_tokens=False,
        window_size=_WINDOW,
    )
    if compiled:
        for block in model.vit.blocks:
            block.compile()
    return model.to(device).train()


def _step(model: MiCLViT | None, case: Case, settings: DenseSettings) -> Step:
    assert model is not None
    device, cast = next(model.parameters()).device, _CASTS[case.precision]
    generator = torch.Generator().manual_seed(_SEED)
    shape = (settings.batch, 3, settings.size, settings.size)
    images_NCHW = torch.randn(shape, generator=generator).to(device)

    def step() -> None:
        # Read when the model runs, so that all cases share one.
        model.window_size = _WINDOW if case.windowed else 0
        model.activation_checkpointing = case.checkpointed
        with torch.autocast(device.type, cast, enabled=cast is not None):
            (map_NDhw,) = model(images_NCHW)
        map_NDhw.float().square().mean().backward()
        model.zero_grad()

    return step


def _seconds(step: Step, device: torch.device) -> float:
    settle(device)
    start = time.perf_counter()
    step()
    settle(device)
    return time.perf_counter() - start


def _attention(step: Step) -> str:
    """The kernel that ran, as torch's operator is called; `math` for plain matrix products."""
    with _Seen() as seen:
        step()
    return ", ".join(sorted(seen.kernels)) or "math"


class _Seen(TorchDispatchMode):
    """Collects the kernels of attention that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note the name, change nothing."""
        name = re.fullmatch(
            r"_scaled_dot_product_(\w+?)(_backward)?", function.__name__.split(".")[0]
        )
        if name and not name[2]:
            self.kernels.add(name[1])
        return function(*args, **(kwargs or {}))


def _peak(settings: DenseSettings, case: Case, step: Step, weights_mib: int) -> int:
    device = this_device()
    if device.type == "cpu":
        return in_own_process(_peak_of_case, settings, case)
    peak = Peak(device)
    step()
    # The weights were there before; on a CPU they are made where the peak is watched.
    return peak.mib() + weights_mib


def _peak_of_case(settings: DenseSettings, case: Case) -> int:
    """MiB of one case in this process, on its CPU, the model's weights included."""
    device = torch.device("cpu")
    peak = Peak(device)
    step = _step(_backbone(settings, device, compiled=False), case, settings)
    step()
    return peak.mib()
