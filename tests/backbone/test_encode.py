"""Encoding visible patches against timm's own forward, and against embedding everything first."""

import pytest
import torch
from timm.models import VisionTransformer

from micl_bench.backbone import (
    Arch,
    encode_patches,
    init_mae_,
    sincos_positions,
    view_features,
)
from micl_bench.objectives.micl import MiCL
from micl_bench.patches import gather_patches, patchify


@pytest.fixture
def vit() -> VisionTransformer:
    arch = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
    model = arch.build()
    init_mae_(model, generator=torch.Generator().manual_seed(0))
    # Norms and biases away from the identity, so that leaving one out would show.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval().double()


@pytest.fixture
def images_NCHW() -> torch.Tensor:
    return torch.randn(
        3, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def encode_visible(
    vit: VisionTransformer, images_NCHW: torch.Tensor, keep_NVK: torch.Tensor
) -> torch.Tensor:
    """tokens_NVTD after the final norm."""
    tokens_BTD = encode_patches(vit, gather_patches(images_NCHW, keep_NVK, 4), keep_NVK)
    return vit.norm(tokens_BTD).unflatten(0, keep_NVK.shape[:2])


def test_everything_visible_equals_timms_forward(
    vit: VisionTransformer, images_NCHW: torch.Tensor
) -> None:
    keep_NVK = torch.arange(36).expand(3, 1, 36)
    tokens_NVTD = encode_visible(vit, images_NCHW, keep_NVK)
    torch.testing.assert_close(tokens_NVTD[:, 0], vit.forward_features(images_NCHW))


def test_masked_equals_embedding_all_then_gathering(
    vit: VisionTransformer, images_NCHW: torch.Tensor
) -> None:
    keep_NVK = torch.stack([torch.randperm(36)[:10].view(2, 5) for _ in range(3)])
    all_NLD = vit.patch_embed(images_NCHW) + vit.pos_embed[:, 1:]
    tokens_NVTD = encode_visible(vit, images_NCHW, keep_NVK)
    for image in range(3):
        for view in range(2):
            class_1D = vit.cls_token[0] + vit.pos_embed[0, :1]
            sequence = torch.cat([class_1D, all_NLD[image, keep_NVK[image, view]]])[None]
            expected = vit.norm(vit.blocks(sequence))[0]
            torch.testing.assert_close(tokens_NVTD[image, view], expected)


def test_hidden_patches_change_nothing(vit: VisionTransformer, images_NCHW: torch.Tensor) -> None:
    keep_NVK = torch.tensor([[[0, 1], [7, 35]]]).expand(3, 2, 2)
    before = encode_visible(vit, images_NCHW, keep_NVK)
    changed = images_NCHW.clone()
    changed[:, :, 4:8, 8:12] = 100.0  # patch 8: row 1, column 2
    assert torch.equal(before, encode_visible(vit, changed, keep_NVK))


def test_patch_pixels_are_in_the_order_of_the_projection(images_NCHW: torch.Tensor) -> None:
    patches_NLP = patchify(images_NCHW, 4)
    # Patch 9 lies at row 1, column 3 of the 6 x 6 grid.
    expected = images_NCHW[2, :, 4:8, 12:16].reshape(-1)
    assert torch.equal(patches_NLP[2, 9], expected)


def test_without_class_token_patches_are_all(images_NCHW: torch.Tensor) -> None:
    arch = Arch(
        name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2, class_token=False
    )
    model = arch.build()
    init_mae_(model, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.pos_embed[0], sincos_positions(6, 32))
    torch.nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    model = model.eval().double()
    whole_N1L = torch.arange(36).expand(3, 1, 36)
    tokens_NVTD = encode_visible(model, images_NCHW, whole_N1L)
    assert tokens_NVTD.shape == (3, 1, 36, 32)
    torch.testing.assert_close(tokens_NVTD[:, 0], model.forward_features(images_NCHW))
    keep_NVK = torch.tensor([[[3, 1], [7, 35]]]).expand(3, 2, 2)
    all_NLD = model.patch_embed(images_NCHW) + model.pos_embed
    found_NVD = view_features(model, gather_patches(images_NCHW, keep_NVK, 4), keep_NVK)
    for view in range(2):
        sequence = all_NLD[:, keep_NVK[0, view]]
        expected_ND = model.norm(model.blocks(sequence)).mean(1)
        torch.testing.assert_close(found_NVD[:, view], expected_ND)


def test_positions_of_a_known_place() -> None:
    positions_LD = sincos_positions(4, 8)
    # Row 2, column 3: frequencies 1 and 0.01; column first.
    expected = [
        f(p * w) for p in (3.0, 2.0) for f in (torch.sin, torch.cos) for w in _frequencies()
    ]
    torch.testing.assert_close(positions_LD[2 * 4 + 3], torch.stack(expected).float())


def _frequencies() -> list[torch.Tensor]:
    return [torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.01, dtype=torch.float64)]


def test_initialisation_is_maes() -> None:
    arch = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
    model = arch.build()
    init_mae_(model)
    bound = (6 / (3 * 4 * 4 + 32)) ** 0.5  # Xavier-uniform of a (32, 48) matrix
    weight = model.patch_embed.proj.weight
    assert 0.9 * bound < weight.abs().max().item() <= bound
    assert not model.pos_embed.requires_grad
    assert not model.pos_embed[0, 0].any()
    assert all(not block.attn.qkv.bias.any() for block in model.blocks)


def test_micl_trains_every_parameter_but_the_positions(
    vit: VisionTransformer, images_NCHW: torch.Tensor
) -> None:
    MiCL(MiCL.Config(mask_ratio=0.5))(vit, images_NCHW).loss.backward()
    without = [name for name, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["pos_embed"]
