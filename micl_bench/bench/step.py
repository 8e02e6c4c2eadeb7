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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
from timm.models import VisionTransformer
from torch import Tensor

from micl_bench.backbone import Arch, init_mae_, named_arch
from micl_bench.bench.loader import write_photographs
from micl_bench.bench.machine import in_turn
from micl_bench.data.packed.pack import pack_folder
from micl_bench.data.pixels import Pixels, normalise
from micl_bench.data.to_device import device_batches
from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.model import PretrainingModel, distribute
from micl_bench.engine.pretraining.step import Step
from micl_bench.losses import micl_loss
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.meter import matmul_peak, settle
from micl_bench.runs.optim import OptimConfig, build_optimizer
from micl_bench.runtime.values import LARGEST, Amount, Count, Precision, Values, Within

_SEED = 0
_RATE = 1e-4
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
            name: functools.partial(_speed, step, settings, device) for name, step in steps.items()
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
    batches = _batches(folder, settings, device)
    batch = next(batches)
    ours = _ours(settings, device)
    return {
        "plain": _plain(settings, batch, device),
        "ours": lambda: ours(batch, _RATE),
        "ours_with_data": lambda: ours(next(batches), _RATE),
    }


def _batches(folder: Path, settings: StepSettings, device: torch.device) -> Iterator[Visible]:
    """Endless batches of photographs from a packed store, as training reads them."""
    arch = settings.vit
    write_photographs(folder / "photographs", 2 * settings.batch)
    store = pack_folder(
        folder / "photographs",
        folder / "store",
        layout="patch",
        size=arch.img_size,
        patch_size=arch.patch_size,
    ).store
    endless = settings.objective.wants(arch).batches(
        store,
        Pixels(img_size=arch.img_size),
        batch_size=settings.batch,
        seed=_SEED,
        steps=range(1 << 62),
    )
    return device_batches(endless, device)


def _initial(settings: StepSettings, device: torch.device) -> VisionTransformer:
    vit = settings.vit.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(_SEED))
    return vit.train().to(device)


def _ours(settings: StepSettings, device: torch.device) -> Step:
    vit = _initial(settings, device)
    model = distribute(
        PretrainingModel(settings.objective, vit, precision=settings.precision).to(device),
        parallel="ddp",
        compile_blocks=settings.compile,
        checkpoint_activations=False,
    )
    optimizer = build_optimizer(vit, OptimConfig(base_lr=_RATE))
    return Step(model, optimizer, micro_batch=settings.micro_batch)


def _plain(settings: StepSettings, batch: Visible, device: torch.device) -> Callable[[], object]:
    """The step that takes whole, normalised images; which ones does not matter for its speed."""
    arch, keep_NVK = settings.vit, batch.keep_NVK
    vit = _initial(settings, device)
    optimizer = torch.optim.AdamW(vit.parameters(), lr=_RATE, foreach=False, fused=False)
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


def _speed(take: Callable[[], object], settings: StepSettings, device: torch.device) -> float:
    settle(device)
    start = time.perf_counter()
    for _ in range(settings.steps):
        take()
    settle(device)
    return settings.steps * settings.batch / (time.perf_counter() - start)
