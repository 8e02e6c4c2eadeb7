"""`MiCLViT`: the right maps, the checkpoint's weights, found by both libraries."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmengine")

from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope, init_default_scope

from micl_bench.backbone import Arch
from micl_bench.checkpoints import load_backbone, save_checkpoint
from micl_bench.openmmlab import MiCLViT
from micl_bench.openmmlab.optim import MiCLViTConstructor
from micl_bench.runtime.errors import InputError

DEMO = "random:vit_demo_patch4_32"


def pictures(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def saved(path: Path, patch_size: int) -> str:
    side = 4 * patch_size
    arch = Arch(name="tiny", img_size=side, patch_size=patch_size, width=64, depth=5, num_heads=2)
    save_checkpoint(path, arch.build(), arch, method="MiCL", provenance={})
    return str(path)


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (50, 39)])
@pytest.mark.parametrize("patch_size", [4, 8, 14, 16])
def test_maps_have_the_strides_asked_for(
    tmp_path: Path, patch_size: int, size: tuple[int, int]
) -> None:
    vit = MiCLViT(saved(tmp_path / "tiny.pt", patch_size))
    maps = vit(pictures(2, 3, *size))
    for stride, map_NDhw in zip((4, 8, 16, 32), maps, strict=True):
        assert map_NDhw.shape == (2, 64, -(-size[0] // stride), -(-size[1] // stride))
    sum(map_NDhw.sum() for map_NDhw in maps).backward()
    assert all(parameter.grad is not None for parameter in vit.parameters())


def test_maps_are_timms_own() -> None:
    vit, reference = MiCLViT(DEMO).eval(), load_backbone(DEMO)
    images = pictures(2, 3, 32, 32)
    with torch.no_grad():
        ours = vit.patch_maps(images)
        blocks, tokens = [0, 1, 2, 3], reference.forward_features(images)
        theirs = reference.forward_intermediates(
            images, indices=blocks, norm=True, intermediates_only=True
        )
    assert vit.out_blocks == blocks
    for mine, timms in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, timms)
    torch.testing.assert_close(ours[-1].flatten(2).transpose(1, 2), tokens[:, 1:])


def test_another_size_resamples_positions_as_loading_does() -> None:
    images = pictures(1, 3, 64, 64)
    with torch.no_grad():
        resampled = MiCLViT(DEMO).eval().patch_maps(images)[-1]
        loaded = load_backbone(DEMO, img_size=64).forward_features(images)[:, 1:]
    torch.testing.assert_close(resampled.flatten(2).transpose(1, 2), loaded)


def test_padding_does_not_move_what_is_there() -> None:
    images, vit = pictures(1, 3, 30, 32), MiCLViT(DEMO).eval()
    padded = torch.cat([images, torch.zeros(1, 3, 2, 32)], dim=2)
    with torch.no_grad():
        assert torch.equal(vit(images)[0], vit(padded)[0])


def test_four_quarters_of_the_depth() -> None:
    assert MiCLViT(DEMO).out_blocks == [0, 1, 2, 3]
    assert MiCLViT("random:vit_small_patch16_224").out_blocks == [2, 5, 8, 11]


@pytest.mark.parametrize("blocks", [[0, 1, 2], [0, 1, 2, 4], [0, 1, 1, 3]])
def test_wrong_blocks_are_refused(blocks: list[int]) -> None:
    with pytest.raises(InputError, match="out_blocks"):
        MiCLViT(DEMO, out_blocks=blocks)


def test_one_map_at_the_patch_size(tmp_path: Path) -> None:
    path = saved(tmp_path / "tiny.pt", 16)
    vit = MiCLViT(path, strides=(16,)).eval()
    assert vit.out_blocks == [4]
    images_NCHW = pictures(2, 3, 40, 64)
    with torch.no_grad():
        (map_NDhw,) = vit(images_NCHW)
        (tokens_NDhw,) = vit.patch_maps(images_NCHW)
    assert torch.equal(map_NDhw, tokens_NDhw)
    assert not list(vit.rescale.parameters())


def test_format_and_branch_reach_the_loading(tmp_path: Path) -> None:
    arch = Arch(name="tiny", img_size=32, patch_size=8, width=64, depth=4, num_heads=1)
    networks = {"model": arch.build().state_dict(), "model_ema": arch.build().state_dict()}
    torch.save(networks, tmp_path / "both.pth")
    for branch, key in (("base", "model"), ("ema", "model_ema")):
        vit = MiCLViT(str(tmp_path / "both.pth"), layout="timm", branch=branch)
        assert torch.equal(
            vit.vit.patch_embed.proj.weight, networks[key]["patch_embed.proj.weight"]
        )
    with pytest.raises(InputError, match="branch"):
        MiCLViT(str(tmp_path / "both.pth"), layout="timm", branch="student")


def segmentor() -> dict[str, object]:
    head = {"in_index": 3, "in_channels": 128, "channels": 8, "num_classes": 2}
    return {
        "type": "mmseg.EncoderDecoder",
        "data_preprocessor": {"type": "mmseg.SegDataPreProcessor"},
        "backbone": {"type": "MiCLViT", "checkpoint": DEMO, "seed": 3},
        "decode_head": {"type": "mmseg.FCNHead", "num_convs": 1, **head},
    }


@pytest.mark.parametrize("library", ["mmseg", "mmdet"])
def test_both_libraries_find_it(library: str) -> None:
    before = DefaultScope._instance_dict.copy()
    registry = pytest.importorskip(f"{library}.registry")
    try:
        init_default_scope(library)
        vit = registry.MODELS.build({"type": "MiCLViT", "checkpoint": DEMO})
    finally:
        DefaultScope._instance_dict = before
    assert isinstance(vit, MiCLViT)


def test_initialising_a_model_keeps_the_checkpoint() -> None:
    registry = pytest.importorskip("mmseg.registry")
    model = registry.MODELS.build(segmentor())
    model.init_weights()
    kept = model.backbone.vit.state_dict()
    expected = MiCLViT(DEMO, seed=3).vit.state_dict()
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_only_matrices_are_decayed_and_the_vit_is_slower() -> None:
    registry = pytest.importorskip("mmseg.registry")
    model = registry.MODELS.build(segmentor())
    constructor = MiCLViTConstructor(
        {"optimizer": {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.05}},
        {"backbone_lr_mult": 0.5},
    )
    wrapper = constructor(model)
    assert isinstance(wrapper, OptimWrapper)
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen = set()
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            free = parameter.ndim == 1 or name.endswith(("pos_embed", "cls_token"))
            assert group["weight_decay"] == (0.0 if free else 0.05), name
            assert group["lr"] == (5e-3 if ".vit." in name else 1e-2), name
            seen.add(parameter)
    assert seen == set(names)


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("patches_only", [True, False])
def test_any_prefix_tokens_take_part_as_in_timm(
    tmp_path: Path, class_token: bool, registers: int, patches_only: bool
) -> None:
    arch = Arch(
        name="tiny",
        img_size=32,
        patch_size=8,
        width=64,
        depth=4,
        num_heads=1,
        class_token=class_token,
        num_registers=registers,
        patch_positions_only=patches_only,
        layer_scale=True,
    )
    path = tmp_path / "prefix.pt"
    model = arch.build_any()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_checkpoint(path, model, arch, method="any", provenance={})
    images_NCHW = pictures(2, 3, 32, 32)
    maps = MiCLViT(str(path)).patch_maps(images_NCHW)
    expected = model.eval().forward_intermediates(images_NCHW, norm=True, intermediates_only=True)
    for found_NDhw, expected_NDhw in zip(maps, expected, strict=True):
        torch.testing.assert_close(found_NDhw, expected_NDhw)
