"""The speed of a pre-training step: ours against a plain one, as shares of the machine's own peak.

`plain`           fp32; every patch is embedded, then the visible ones are gathered; AdamW a tensor at
                  a time. What the formulas say, on torch's and timm's defaults.
`ours`            the step that `micl-bench pretrain` takes.
`ours_with_data`  the same with its batches read from a packed store, drawn and copied as in training.

In turn, in one run; medians of rounds. The same weights, images and views for all.

Shapes: N images, V views, K patches a view, M = V * K, L patches, P values a patch, D width.
"""

import dataclasses
import functools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from timm.models import VisionTransformer
from torch import Tensor

from micl_bench.backbone import Arch, named_arch
from micl_bench.bench.machine import in_turn
from micl_bench.bench.training import (
    RATE,
    images_per_second,
    initial_vit,
    photograph_store,
    training_batches,
    training_step,
)
from micl_bench.data.pixels import normalise
from micl_bench.data.visible import Visible
from micl_bench.losses import micl_loss
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.meter import matmul_peak
from micl_bench.runtime.values import LARGEST, Amount, Count, Precision, Values, Within

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSettings(Values):
    """The training that is measured, and for how long."""

    arch: str = "vit_small_patch16_224"
    mask_ratio: Annotated[float, Within(least=0, below=1)] = 0.9
    batch: Annotated[int, Within(2, LARGEST)] = 64
    micro_batch: Amount = 0
    precision: Precision = "fp32"
    """The precision of our step; the plain one is fp32."""
    compile: bool = False
    """Compile our step."""
    steps: Count = 5
    """Steps in each round."""
    rounds: Count = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.objective.wants(self.vit)

    @property
    def vit(self) -> Arch:
        """The architecture."""
        return named_arch(self.arch)

    @property
    def objective(self) -> MiCL:
        """The objective of our step."""
        return MiCL(MiCL.Config(mask_ratio=self.mask_ratio))


def bench_step(settings: StepSettings, device: torch.device) -> list[dict[str, Any]]:
    """Measure images/s, FLOP per image and MFU of each way, the last against its precision's peak.

    Raises:
        InputError: sizes that do not go together.
    """
    flop = settings.objective.flop_per_image(settings.vit)
    with tempfile.TemporaryDirectory(prefix="micl-bench-step-") as folder:
        steps = _ways(Path(folder), settings, device)
        ways = {
            name: functools.partial(
                images_per_second,
                step,
                steps=settings.steps,
                batch=settings.batch,
                device=device,
            )
            for name, step in steps.items()
        }
        for number in {"fp32", settings.precision}:
            ways[f"{number} peak"] = functools.partial(matmul_peak, device, _PRECISIONS[number])
        found = in_turn("bench step", ways, rounds=settings.rounds)
    results = []
    for name in steps:
        precision = "fp32" if name == "plain" else settings.precision
        peak, speed = max(found[f"{precision} peak"]), statistics.median(found[name])
        results.append(
            {
                "name": name,
                "images_per_second": round(speed, 2),
                "mfu": round(speed * flop / peak, 4),
                "precision": precision,
                "flop_per_image": flop,
                "peak_flop_per_second": peak,
            }
        )
    return results


def _ways(
    folder: Path, settings: StepSettings, device: torch.device
) -> dict[str, Callable[[], object]]:
    arch, objective = settings.vit, settings.objective
    store = photograph_store(folder, arch, layout="patch", number=2 * settings.batch)
    batches = training_batches(objective, arch, store, batch=settings.batch, device=device)
    batch = next(batches)
    ours = training_step(
        objective,
        arch,
        device,
        precision=settings.precision,
        compile_blocks=settings.compile,
        micro_batch=settings.micro_batch,
    )
    return {
        "plain": _plain(settings, batch, device),
        "ours": lambda: ours(batch),
        "ours_with_data": lambda: ours(next(batches)),
    }


def _plain(settings: StepSettings, batch: Visible, device: torch.device) -> Callable[[], object]:
    """The step that takes whole, normalised images; which ones does not matter for its speed."""
    arch, keep_NVK = settings.vit, batch.keep_NVK
    vit = initial_vit(arch, device)
    optimizer = torch.optim.AdamW(vit.parameters(), lr=RATE, foreach=False, fused=False)
    shape = (settings.batch, 3, arch.img_size, arch.img_size)
    pixels_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    images_NCHW = normalise(pixels_NCHW)

    def step() -> None:
        loss = micl_loss(embed_all_then_gather(vit, images_NCHW, keep_NVK))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def embed_all_then_gather(vit: VisionTransformer, images_NCHW: Tensor, keep_NVK: Tensor) -> Tensor:
    """[CLS] of each view, features_NVD, by timm's own modules: embed every patch, then choose."""
    N, V, K = keep_NVK.shape
    assert vit.pos_embed is not None
    assert vit.cls_token is not None
    all_NLD = vit.patch_embed(images_NCHW) + vit.pos_embed[:, 1:]
    D = all_NLD.shape[-1]
    keep_NMD = keep_NVK.reshape(N, V * K, 1).expand(-1, -1, D)
    visible_BKD = torch.gather(all_NLD, 1, keep_NMD).reshape(N * V, K, D)
    class_11D = vit.cls_token + vit.pos_embed[:, :1]
    tokens_BTD = torch.cat([class_11D.expand(N * V, -1, -1), visible_BKD], dim=1)
    return vit.norm(vit.blocks(tokens_BTD))[:, 0].reshape(N, V, D)
