"""Methods with a momentum twin whose blocks run in bfloat16: rows in fp32, close to those of fp32."""

import numpy as np
import pytest
import torch

from micl_bench.backbone import Arch, init_mae_
from micl_bench.engine.pretraining.model import PretrainingModel
from micl_bench.objectives import Objective
from micl_bench.objectives.extrema import ExtreMA
from micl_bench.objectives.ijepa import IJepa

ARCH = Arch(
    name="test", img_size=32, patch_size=4, width=32, depth=2, num_heads=2, class_token=False
)


@pytest.mark.parametrize(
    "objective",
    [
        ExtreMA(ExtreMA.Config(hidden_width=16, output_width=8)),
        IJepa(IJepa.Config(predictor_depth=2, predictor_width=16)),
    ],
    ids=lambda one: one.name,
)
def test_rows_are_fp32_and_close(objective: Objective) -> None:
    generator = torch.Generator().manual_seed(1)
    images_NCHW = torch.randint(0, 256, (4, 3, 32, 32), generator=generator, dtype=torch.uint8)
    seen = objective.wants(ARCH).of_images(images_NCHW, np.arange(4), seed=3)
    found = {}
    for precision in ("fp32", "bf16"):
        vit = ARCH.build()
        init_mae_(vit, generator=torch.Generator().manual_seed(0))
        model = PretrainingModel(objective, vit.train(), precision=precision, seed=1)
        rows = model(seen)
        objective.loss(rows).loss.backward()
        assert vit.patch_embed.proj.weight.grad is not None
        assert torch.isfinite(vit.patch_embed.proj.weight.grad).all()
        found[precision] = rows.detach()
    exact, rough = found["fp32"], found["bf16"]
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.cosine_similarity(rough, exact, dim=-1).min() > 0.99
