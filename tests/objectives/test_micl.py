"""MiCL as an objective: timm's own modules and the loss's formula by hand."""

from pathlib import Path

import pytest
import torch
from checkpoints.layouts import LAYOUTS
from timm.models import VisionTransformer

from micl_bench.backbone import Arch, init_mae_
from micl_bench.checkpoints import load_backbone
from micl_bench.losses import micl_loss
from micl_bench.objectives.micl import MiCL
from micl_bench.runtime.errors import InputError

N, L = 4, 36


@pytest.fixture
def vit() -> VisionTransformer:
    model = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2).build()
    init_mae_(model, generator=torch.Generator().manual_seed(0))
    # Norms and biases away from the identity, so that leaving one out would show.
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return model.eval()


@pytest.fixture
def images_NCHW() -> torch.Tensor:
    return torch.randn(N, 3, 24, 24, generator=torch.Generator().manual_seed(2))


def some_views(num_views: int, kept: int) -> torch.Tensor:
    noise_NL = torch.rand(N, L, generator=torch.Generator().manual_seed(3))
    return noise_NL.argsort(dim=1)[:, : num_views * kept].reshape(N, num_views, kept)


def class_by_hand(
    vit: VisionTransformer, image_CHW: torch.Tensor, keep_K: list[int]
) -> torch.Tensor:
    """[CLS] of one view: timm's patch embedding of the whole image, then the kept patches."""
    assert vit.pos_embed is not None
    assert vit.cls_token is not None
    all_LD = vit.patch_embed(image_CHW[None])[0] + vit.pos_embed[0, 1:]
    class_1D = vit.cls_token[0] + vit.pos_embed[0, :1]
    sequence = torch.cat([class_1D, *(all_LD[patch][None] for patch in keep_K)])[None]
    return vit.norm(vit.blocks(sequence))[0, 0]


@pytest.mark.parametrize("num_views", [2, 3])
def test_loss_and_features_equal_timms_modules_by_hand(
    vit: VisionTransformer, images_NCHW: torch.Tensor, num_views: int
) -> None:
    vit, images_NCHW = vit.double(), images_NCHW.double()
    keep_NVK = some_views(num_views, 5)
    config = MiCL.Config(num_views=num_views, kappa=0.25, temperature=0.2)
    output = MiCL(config)(vit, images_NCHW, keep_NVK)
    features_NVD = torch.stack(
        [
            torch.stack([class_by_hand(vit, image, keep_K) for keep_K in keep_VK])
            for image, keep_VK in zip(images_NCHW, keep_NVK.tolist(), strict=True)
        ]
    )
    # fp64, of the same sums in another order.
    torch.testing.assert_close(output.features_NVD, features_NVD, rtol=1e-10, atol=1e-10)
    expected = micl_loss(features_NVD, kappa=0.25, temperature=0.2)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-10)


def test_a_file_gives_the_loss_of_its_backbone(tmp_path: Path) -> None:
    path = LAYOUTS["mae-decoder"](tmp_path)
    generator = torch.Generator().manual_seed(2)
    images_NCHW = torch.randn(N, 3, 32, 32, generator=generator)
    keep_NVK = torch.rand(N, 16, generator=generator).argsort(dim=1)[:, :8].reshape(N, 2, 4)
    objective = MiCL(MiCL.Config(mask_ratio=0.5))
    found = objective.from_checkpoint(path)(images_NCHW, keep_NVK)
    expected = objective(load_backbone(path), images_NCHW, keep_NVK)
    assert found.loss.item() == expected.loss.item()
    with pytest.raises(InputError, match=r"needed: \(2, 4\) for each image"):
        objective.from_checkpoint(path)(images_NCHW, keep_NVK[:, :, :3])


def test_without_views_they_are_drawn_anew_for_each_batch(
    vit: VisionTransformer, images_NCHW: torch.Tensor
) -> None:
    objective = MiCL(MiCL.Config(mask_ratio=0.5))
    torch.manual_seed(5)
    first, second = (objective(vit, images_NCHW) for _ in range(2))
    assert first.features_NVD.shape == (N, 2, 32)
    assert first.loss.shape == ()
    assert torch.isfinite(first.loss)
    assert not torch.equal(first.features_NVD, second.features_NVD)
    torch.manual_seed(5)
    again = objective(vit, images_NCHW)
    assert torch.equal(again.features_NVD, first.features_NVD)
    first.loss.backward()
    assert vit.patch_embed.proj.weight.grad is not None
    assert vit.patch_embed.proj.weight.grad.any()


@pytest.mark.parametrize("size", [(32, 32), (24, 28), (28, 24), (48, 12)])
def test_another_image_size_is_refused_in_one_line(
    vit: VisionTransformer, size: tuple[int, int]
) -> None:
    with pytest.raises(InputError) as caught:
        MiCL(MiCL.Config(mask_ratio=0.5))(vit, torch.zeros(2, 3, *size))
    assert str(caught.value) == (
        f"images are {size} pixels, the backbone has positions for (24, 24); load it with img_size, "
        "or resize the images"
    )


def test_features_and_loss_are_fp32_under_autocast(
    vit: VisionTransformer, images_NCHW: torch.Tensor
) -> None:
    keep_NVK = some_views(2, 9)
    exact = MiCL()(vit, images_NCHW, keep_NVK)
    with torch.autocast("cpu", torch.bfloat16):
        output = MiCL()(vit, images_NCHW, keep_NVK)
    assert output.features_NVD.dtype == output.loss.dtype == torch.float32
    # The loss of these very features: it has lost nothing on the way.
    assert output.loss.item() == micl_loss(output.features_NVD).item()
    # The blocks did run in bfloat16, of 8 bits.
    assert not torch.equal(output.features_NVD, exact.features_NVD)
    cosine = torch.cosine_similarity(output.features_NVD, exact.features_NVD, dim=-1)
    assert cosine.min() > 0.99


def test_defaults_are_those_of_the_authors_code() -> None:
    config = MiCL().config
    assert (config.num_views, config.mask_ratio) == (2, 0.9)
    assert (config.kappa, config.temperature) == (1 / 64, 0.07)
    assert config.negatives == "device"


@pytest.mark.parametrize("negatives", ["device", "global"])
def test_on_one_process_both_kinds_of_negatives_are_the_same(
    vit: VisionTransformer, images_NCHW: torch.Tensor, negatives: str
) -> None:
    keep_NVK = some_views(2, 9)
    output = MiCL(MiCL.Config(negatives=negatives))(vit, images_NCHW, keep_NVK)
    assert output.loss.item() == micl_loss(output.features_NVD).item()


@pytest.mark.parametrize(
    "values",
    [
        {"kappa": -0.1},
        {"kappa": float("nan")},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"negatives": "queue"},
    ],
    ids=str,
)
def test_impossible_values_are_refused(values: dict[str, float | str]) -> None:
    with pytest.raises(InputError, match=r"needed|allowed"):
        MiCL.Config(**values)  # type: ignore[arg-type]
