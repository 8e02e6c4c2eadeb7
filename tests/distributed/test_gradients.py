"""The result does not depend on how the batch is cut: processes, shards, micro-batches.

In fp64, where 1e-6 relative leaves six digits between a wrong factor and rounding.
"""

from pathlib import Path

import pytest
import torch
from support import good, torchrun

from distributed.gradients_worker import IMAGES, batch, gradients
from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from micl_bench.losses import micl_loss

WORKER = Path(__file__).with_name("gradients_worker.py")


def independent() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The whole batch through timm's modules by hand, one view of one image at a time."""
    arch = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
    vit = arch.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    vit.double()
    visible_NMP, keep_NVK = batch()
    mean_C, std_C = (torch.tensor(v).double() for v in (IMAGENET_MEAN, IMAGENET_STD))
    features = []
    for image in range(IMAGES):
        for view in range(3):
            patches_KCpp = visible_NMP[image, 3 * view : 3 * view + 3].double().view(3, 3, 4, 4)
            patches_KCpp = (patches_KCpp / 255 - mean_C[:, None, None]) / std_C[:, None, None]
            tokens_KD = vit.patch_embed.proj(patches_KCpp).flatten(1)
            tokens_KD = tokens_KD + vit.pos_embed[0, 1 + keep_NVK[image, view]]
            tokens_TD = torch.cat([vit.cls_token[0] + vit.pos_embed[0, :1], tokens_KD])
            features.append(vit.norm(vit.blocks(tokens_TD[None]))[0, 0])
    loss = micl_loss(torch.stack(features).view(IMAGES, 3, -1))
    loss.backward()
    return loss, {n: p.grad for n, p in vit.named_parameters() if p.grad is not None}


def assert_same(found: dict, loss: torch.Tensor, expected: dict[str, torch.Tensor]) -> None:
    assert found["loss"].item() == pytest.approx(loss.item(), rel=1e-6)
    assert found["gradients"].keys() == expected.keys()
    for name, gradient in expected.items():
        error = (found["gradients"][name] - gradient).norm() / gradient.norm()
        # Keys shift all logits of a query alike: the gradient of their bias is 0 up to rounding.
        assert error < 1e-6 or gradient.norm() < 1e-12, (name, error)
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    assert found["norm"].item() == pytest.approx(norm.item(), rel=1e-6)


@pytest.mark.parametrize("micro_batch", [0, 1, 4, 5, IMAGES])
def test_one_process_with_any_micro_batch(micro_batch: int) -> None:
    assert_same(gradients("ddp", micro_batch), *independent())


@pytest.mark.parametrize(
    ("processes", "parallel", "sizes"),
    [
        (2, "ddp", (0, 4)),
        pytest.param(2, "ddp", (1,), marks=pytest.mark.long),
        pytest.param(4, "ddp", (0, 2), marks=pytest.mark.long),
        pytest.param(2, "fsdp", (0, 2), marks=pytest.mark.long),
    ],
)
def test_several_processes_with_any_micro_batch(
    tmp_path: Path, processes: int, parallel: str, sizes: tuple[int, ...]
) -> None:
    path = tmp_path / "found.pt"
    good(torchrun(processes, WORKER, path, parallel, *sizes))
    for found in torch.load(path, weights_only=True).values():
        assert_same(found, *independent())


def test_averaging_losses_of_small_batches_would_not_do() -> None:
    # What the cached gradient is there to avoid: the halves' mean is another number.
    generator = torch.Generator().manual_seed(2)
    features_NVD = torch.randn(IMAGES, 3, 32, generator=generator, dtype=torch.float64)
    halves = torch.stack([micl_loss(half) for half in features_NVD.split(IMAGES // 2)])
    assert abs(halves.mean() - micl_loss(features_NVD)) > 0.1
