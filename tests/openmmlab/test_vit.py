"""`MiCLViT`: the right maps, the checkpoint's weights, found by both libraries."""

from pathlib import Path

import pytest
import torch
from mmseg.registry import MODELS
from openmmlab.tiny_runs import tiny
from openmmlab.vits import pictures

from micl_bench.backbone import Arch
from micl_bench.checkpoints import load_backbone, save_checkpoint
from micl_bench.openmmlab import MiCLViT
from micl_bench.runtime.errors import InputError

DEMO = "random:vit_demo_patch4_32"


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


def test_initialising_a_model_keeps_the_checkpoint() -> None:
    head = {"in_index": 3, "in_channels": 128, "channels": 8, "num_classes": 2}
    model = MODELS.build(
        {
            "type": "mmseg.EncoderDecoder",
            "data_preprocessor": {"type": "mmseg.SegDataPreProcessor"},
            "backbone": {"type": "MiCLViT", "checkpoint": DEMO, "seed": 3},
            "decode_head": {"type": "mmseg.FCNHead", "num_convs": 1, **head},
        }
    )
    model.init_weights()
    kept = model.backbone.vit.state_dict()
    expected = MiCLViT(DEMO, seed=3).vit.state_dict()
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("patches_only", [True, False])
def test_any_prefix_tokens_take_part_as_in_timm(
    tmp_path: Path, class_token: bool, registers: int, patches_only: bool
) -> None:
    tokens = {"class_token": class_token, "num_registers": registers}
    tokens |= {"patch_positions_only": patches_only, "layer_scale": True}
    path = tiny(tmp_path / "prefix.pt", depth=4, **tokens)
    images_NCHW = pictures(2, 3, 32, 32)
    maps = MiCLViT(path).eval().patch_maps(images_NCHW)
    timms = load_backbone(path)
    expected = timms.forward_intermediates(images_NCHW, norm=True, intermediates_only=True)
    for found_NDhw, expected_NDhw in zip(maps, expected, strict=True):
        torch.testing.assert_close(found_NDhw, expected_NDhw)
