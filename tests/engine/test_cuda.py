"""The same step on a GPU: equal to the CPU's, and never waiting for the device."""

import pytest
import torch

from micl_bench.backbone import init_mae_, named_arch
from micl_bench.data.visible import Visible
from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.engine.pretraining.step import Step
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.loop import Lagging
from micl_bench.runs.optim import OptimConfig, build_optimizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def step_on(device: str, precision: str) -> tuple[Step, Visible]:
    vit = named_arch("vit_demo_patch4_32").build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    model = PretrainingModel(MiCL(), vit.train(), precision=precision).to(device)
    step = Step(model, build_optimizer(vit, OptimConfig(base_lr=1e-3)))
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (16, 12, 48), generator=generator, dtype=torch.uint8)
    keep_NM = torch.rand(16, 64, generator=generator).argsort(dim=1)[:, :12]
    return step, Visible(pixels.to(device), keep_NM.reshape(16, 2, 6).to(device))


@pytest.mark.parametrize(("precision", "rel"), [("fp32", 1e-3), ("bf16", 3e-2)])
def test_five_steps_equal_the_cpus(precision: str, rel: float) -> None:
    # fp32 sums in another order, grown over five updates; bfloat16 rounds to 0.4 %.
    found = []
    for device in ("cpu", "cuda"):
        step, batch = step_on(device, precision)
        found.append([step(batch, 1e-3).cpu() for _ in range(5)])
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert on_gpu[0].item() == pytest.approx(on_cpu[0].item(), rel=rel)


def test_a_step_never_waits_for_the_device() -> None:
    step, batch = step_on("cuda", "bf16")
    lagging = Lagging(torch.device("cuda"))
    for number in range(3):
        lagging.push(number, step(batch, 1e-3))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(3):
            lagging.push(number, step(batch, 1e-3))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(lagging.ready(everything=True)) == 6
