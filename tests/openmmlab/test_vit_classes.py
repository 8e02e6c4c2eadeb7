"""`MiCLViT` over every class of ViT: timm's maps, the checkpoint's positions, every option trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openmmlab.vits import ARCHS, pictures, saved
from torch import Tensor

from micl_bench.backbone import sincos_positions
from micl_bench.checkpoints import load_backbone
from micl_bench.openmmlab import MiCLViT
from micl_bench.runtime.errors import InputError

OPTIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no final norm": {"final_norm": False},
    "early blocks": {"out_blocks": [0, 1, 2], "strides": (4, 8, 16)},
    "no prefix tokens": {"prefix_tokens": False},
    "windows": {"window_size": 2},
    "as ViTDet": {
        "final_norm": False,
        "prefix_tokens": False,
        "window_size": 3,
        "strides": (16,),
        "activation_checkpointing": True,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vits")


def with_rule(folder: Path, name: str, rule: dict[str, Any], positions_1TD: Tensor | None) -> str:
    """The checkpoint, with another rule of positions, and other positions if given."""
    content = torch.load(saved(folder, name), weights_only=True)
    content["positions"] = rule
    if positions_1TD is not None:
        content["model"]["pos_embed"] = positions_1TD
    torch.save(content, folder / "rule.pt")
    return str(folder / "rule.pt")


def assert_maps_are_timms(vit: MiCLViT, path: str, size: int, *, norm: bool = True) -> None:
    images_NCHW = pictures(2, 3, size, size)
    with torch.no_grad():
        maps = vit.eval().patch_maps(images_NCHW)
        expected = load_backbone(path, img_size=size).forward_intermediates(
            images_NCHW, indices=vit.out_blocks, norm=norm, intermediates_only=True
        )
    for mine_NDhw, timms_NDhw in zip(maps, expected, strict=True):
        torch.testing.assert_close(mine_NDhw, timms_NDhw, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("larger", "norm"), [(0, True), (3, False)])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] if arch.depth > 4 else [])
        for name, arch in ARCHS.items()
    ],
)
def test_maps_are_timms_own_at_the_stored_size_and_at_another(
    folder: Path, name: str, larger: int, norm: bool
) -> None:
    path = saved(folder, name)
    size = ARCHS[name].img_size + larger * ARCHS[name].patch_size
    assert_maps_are_timms(MiCLViT(path, final_norm=norm), path, size, norm=norm)


@pytest.mark.parametrize("img_size", [None, 48])
@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "bicubic", "antialias": True, "offset": 0.0},
        {"kind": "bicubic", "antialias": False, "offset": 0.0},
        {"kind": "bicubic", "antialias": False, "offset": 0.1},
    ],
)
def test_positions_come_to_another_size_by_the_checkpoints_own_rule(
    folder: Path, rule: dict[str, Any], img_size: int | None
) -> None:
    path = with_rule(folder, "plain", rule, None)
    # Smaller than stored too, where antialiasing matters.
    for size in (24, 48) if img_size is None else (48,):
        assert_maps_are_timms(MiCLViT(path, img_size=img_size), path, size)


def test_fixed_positions_are_computed_anew_and_not_trained(folder: Path) -> None:
    row_first_LD = sincos_positions(4, 64).roll(32, dims=1)
    positions_1TD = torch.cat([torch.zeros(1, 64), row_first_LD])[None]
    path = with_rule(folder, "plain", {"kind": "sincos"}, positions_1TD)
    vit = MiCLViT(path)
    for size in (24, 32, 48):
        assert_maps_are_timms(vit, path, size)
    assert {name for name, value in vit.named_parameters() if not value.requires_grad} == {
        "vit.pos_embed"
    }
    # Away from squares, by the formula: rows in the first half of the channels.
    table_LD = vit._positions.at(vit.vit.pos_embed, (3, 5))[0, 1:]
    frequency_F = 10000.0 ** (-np.arange(16) / 16)
    angles = np.arange(3)[:, None] * frequency_F
    expected_hF = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(
        table_LD.unflatten(0, (3, 5))[:, 2, :32].numpy(), expected_hF, atol=1e-6
    )


@pytest.mark.parametrize("name", ["plain", "registers", "beit", "eva"])
def test_gradients_reach_resampled_positions(folder: Path, name: str) -> None:
    vit = MiCLViT(saved(folder, name))
    images_NCHW = pictures(1, 3, 5 * vit.patch_size, 7 * vit.patch_size)
    vit.patch_maps(images_NCHW)[-1].square().sum().backward()
    found = {name for name in vit.no_weight_decay() if vit.get_parameter(name).grad is not None}
    assert found == vit.no_weight_decay()
    for name in found:
        assert vit.get_parameter(name).grad.abs().sum() > 0, name


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["plain", "registers", "beit", "beit-shared", "eva"])
def test_every_parameter_is_trained(folder: Path, name: str, options: dict[str, Any]) -> None:
    vit = MiCLViT(saved(folder, name), **options).train()
    p = vit.patch_size
    sum(map_NDhw.square().sum() for map_NDhw in vit(pictures(2, 3, 4 * p - 3, 5 * p))).backward()
    assert [name for name, value in vit.named_parameters() if value.grad is None] == []


def test_what_no_map_needs_is_left_out(folder: Path) -> None:
    vit = MiCLViT(
        saved(folder, "registers"),
        out_blocks=[1],
        strides=(8,),
        final_norm=False,
        prefix_tokens=False,
    )
    names = {name.split(".")[1] for name in vit.state_dict() if name.startswith("vit.")}
    assert names == {"pos_embed", "patch_embed", "blocks"}
    assert len(vit.vit.blocks) == 2
    assert MiCLViT(saved(folder, "plain"), prefix_tokens=False).vit.pos_embed.shape == (1, 16, 64)


@pytest.mark.parametrize(
    ("name", "window_size"), [("plain", 0), ("plain", 2), ("beit", 0), ("beit", 2), ("eva", 2)]
)
def test_activation_checkpointing_computes_blocks_twice_and_changes_nothing(
    folder: Path, name: str, window_size: int
) -> None:
    found = []
    for twice in (False, True):
        vit = MiCLViT(
            saved(folder, name),
            drop_path=0.5,
            window_size=window_size,
            activation_checkpointing=twice,
            strides=(ARCHS[name].patch_size,),
            frozen_stages=1,
        ).train()
        calls = [0] * len(vit.vit.blocks)
        for number, block in enumerate(vit.vit.blocks):

            def count(*_: Any, number: int = number, calls: list[int] = calls) -> None:
                calls[number] += 1

            block.norm1.register_forward_pre_hook(count)
        torch.manual_seed(2)
        (map_NDhw,) = vit(pictures(3, 3, 3 * vit.patch_size, 4 * vit.patch_size))
        map_NDhw.square().sum().backward()
        gradients = {name: value.grad for name, value in vit.named_parameters()}
        found.append((map_NDhw, gradients))
        assert calls == [1] + [1 + twice] * (len(calls) - 1)
    (map_NDhw, gradients), (other_NDhw, others) = found
    assert torch.equal(map_NDhw, other_NDhw)
    for name, gradient in gradients.items():
        assert (gradient is None) == (others[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(gradient, others[name], msg=name)


@pytest.mark.parametrize("stages", [-1, 0, 2, 4])
@pytest.mark.parametrize("name", ["plain", "registers", "beit-shared"])
def test_frozen_stages_are_neither_trained_nor_dropped(
    folder: Path, name: str, stages: int
) -> None:
    vit = MiCLViT(saved(folder, name), frozen_stages=stages, drop_path=0.9).train()
    sum(map_NDhw.square().sum() for map_NDhw in vit(pictures(2, 3, 32, 32))).backward()
    blocks = tuple(f"vit.blocks.{number}." for number in range(max(stages, 0)))
    for parameter_name, parameter in vit.named_parameters():
        in_blocks = parameter_name.startswith("vit.blocks.")
        top = parameter_name.startswith(("vit.norm.", "rescale."))
        frozen = stages >= 0 and not in_blocks and not top
        frozen |= parameter_name.startswith(blocks)
        frozen |= stages == 4 and parameter_name.startswith("vit.norm.")
        assert (parameter.grad is None) == frozen, parameter_name
    assert [block.training for block in vit.vit.blocks] == [number >= stages for number in range(4)]
    with torch.no_grad():
        first, second = (vit.patch_maps(pictures(2, 3, 32, 32)) for _ in range(2))
    same = [torch.equal(*maps) for maps in zip(first, second, strict=True)]
    assert all(same[: max(stages, 0)])
    assert all(same) == (stages == 4)


@pytest.mark.parametrize("name", ["plain", "beit"])
def test_under_autocast_blocks_are_summed_in_the_parameters_type(folder: Path, name: str) -> None:
    vit = MiCLViT(saved(folder, name), final_norm=False, prefix_tokens=False).eval()
    images_NCHW = pictures(1, 3, 40, 32)
    with torch.no_grad():
        wide = vit.patch_maps(images_NCHW)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = vit.patch_maps(images_NCHW)
    for wide_NDhw, narrow_NDhw in zip(wide, narrow, strict=True):
        assert narrow_NDhw.dtype == torch.float32
        torch.testing.assert_close(narrow_NDhw, wide_NDhw, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("stages", [-2, 5])
def test_more_frozen_stages_than_there_are_is_refused(folder: Path, stages: int) -> None:
    with pytest.raises(InputError, match=rf"frozen_stages is {stages}; needed is -1 to 4"):
        MiCLViT(saved(folder, "plain"), frozen_stages=stages)


@pytest.mark.parametrize("name", ["plain", "registers", "beit", "beit-shared", "eva"])
def test_layers_and_parameters_without_decay_have_its_own_names(folder: Path, name: str) -> None:
    vit = MiCLViT(saved(folder, name))
    above = vit.layers_above()
    assert above.keys() == dict(vit.named_parameters()).keys()
    depth = ARCHS[name].depth
    for parameter_name, count in above.items():
        parts = parameter_name.split(".")
        if parts[:2] == ["vit", "blocks"]:
            expected = depth - int(parts[2])
        else:
            expected = 0 if parts[0] == "rescale" or parts[1] == "norm" else depth + 1
        assert count == expected, parameter_name
    free = {"cls_token", "reg_token", "pos_embed"} & {part.split(".")[1] for part in above}
    tables = {name for name in above if name.endswith("relative_position_bias_table")}
    assert vit.no_weight_decay() == {f"vit.{name}" for name in free} | tables
    assert vit.no_weight_decay()


def test_layers_are_counted_from_the_last_block_taken(folder: Path) -> None:
    vit = MiCLViT(saved(folder, "plain"), out_blocks=[1], strides=(8,), final_norm=False)
    above = vit.layers_above()
    assert above["vit.blocks.1.mlp.fc2.bias"] == 1
    assert above["vit.pos_embed"] == 3


def test_learned_rotary_frequencies_are_in_no_layer(folder: Path) -> None:
    vit = MiCLViT(saved(folder, "mixed"))
    assert vit.no_weight_decay() >= {"vit.rope.freqs"}
    # Positions, learnt or not, are at the bottom.
    above = vit.layers_above()
    assert above["vit.rope.freqs"] == above["vit.patch_embed.proj.weight"] == max(above.values())
