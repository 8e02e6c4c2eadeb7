"""Learning rates and weight decay of every parameter, and the schedule against its formula."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from micl_bench.backbone import Arch, Pool, named_arch
from micl_bench.runs.optim import (
    OptimConfig,
    RisingDecay,
    build_optimizer,
    learning_rate,
    parameter_groups,
    set_decay,
)
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.errors import InputError


def test_a_frozen_parameter_is_left_out() -> None:
    model = named_arch("vit_demo_patch4_32").build()
    assert model.pos_embed is not None
    model.pos_embed.requires_grad_(False)
    groups = parameter_groups(model, OptimConfig(base_lr=1.0))
    assert all(p is not model.pos_embed for group in groups for p in group["params"])


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_schedule_is_a_linear_warmup_and_a_half_cosine_to_its_floor(floor: float) -> None:
    lengths = {"warmup_steps": 4, "total_steps": 12}
    rates = [learning_rate(step, peak=2.0, floor=floor, **lengths) for step in range(13)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    cosines = [(1 + math.cos(math.pi * (step - 4) / 8)) / 2 for step in range(4, 13)]
    assert rates[4:] == pytest.approx([floor + (2 - floor) * cosine for cosine in cosines])


def test_a_rising_decay_is_a_half_cosine_for_what_is_decayed() -> None:
    config = RisingDecay(base_lr=1.0, weight_decay=0.04, final_weight_decay=0.4)
    found = [config.decay(done / 8) for done in range(9)]
    # DINO's words: final + (first - final) * (1 + cos) / 2.
    expected = [0.4 - 0.36 * (1 + math.cos(math.pi * done / 8)) / 2 for done in range(9)]
    assert found == pytest.approx(expected, rel=1e-14)
    assert (found[0], found[-1]) == (pytest.approx(0.04), pytest.approx(0.4))
    optimizer = build_optimizer(SMALL.build(), config)
    set_decay(optimizer, 0.3)
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {0.0, 0.3}
    vectors = [group for group in optimizer.param_groups if not group["weight_decay"]]
    assert all(p.ndim == 1 or p.shape[0] == 1 for group in vectors for p in group["params"])


def test_a_rising_decay_moves_no_other_recipe() -> None:
    # Fingerprints and digests of recipes are made of these.
    assert "final_weight_decay" not in to_dict(OptimConfig(base_lr=1.0))
    rising = RisingDecay(base_lr=1.0, final_weight_decay=0.4)
    assert to_dict(rising) == {**to_dict(OptimConfig(base_lr=1.0)), "final_weight_decay": 0.4}


def settings_of(model: nn.Module, config: OptimConfig) -> dict[str, tuple[float, float]]:
    """(lr scale, weight decay) of each parameter by name."""
    found = {}
    for group in parameter_groups(model, config):
        for parameter in group["params"]:
            found[id(parameter)] = (group["lr_scale"], group["weight_decay"])
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return {name: found[id(parameter)] for name, parameter in inner.named_parameters()}


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize(
    ("name", "depth", "decay"),
    [("vit_base_patch16_224", 12, 0.65), ("vit_large_patch16_224", 24, 0.75)],
)
def test_every_parameter_of_a_vit_has_the_published_rate(
    name: str, depth: int, decay: float, pool: Pool
) -> None:
    with torch.device("meta"):
        model = named_arch(name).build(num_classes=1000, pool=pool)
    config = OptimConfig(base_lr=1.0, weight_decay=0.05, layer_decay=decay)
    linear = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    # By hand, from the rule: num_layers = depth + 1, scale decay^(num_layers - layer).
    expected = {
        "cls_token": (decay ** (depth + 1), 0.0),
        "pos_embed": (decay ** (depth + 1), 0.0),
        "patch_embed.proj.weight": (decay ** (depth + 1), 0.05),
        "patch_embed.proj.bias": (decay ** (depth + 1), 0.0),
        "head.weight": (1.0, 0.05),
        "head.bias": (1.0, 0.0),
    }
    norm = "norm" if pool == "token" else "fc_norm"
    expected |= {f"{norm}.{part}": (1.0, 0.0) for part in ("weight", "bias")}
    for block in range(depth):
        scale = decay ** (depth - block)
        expected |= {f"blocks.{block}.{part}.weight": (scale, 0.05) for part in linear}
        expected |= {f"blocks.{block}.{part}.bias": (scale, 0.0) for part in linear}
        for part in ("norm1", "norm2"):
            expected |= {
                f"blocks.{block}.{part}.{kind}": (scale, 0.0) for kind in ("weight", "bias")
            }
    found = settings_of(model, config)
    assert found.keys() == expected.keys()
    for parameter, (scale, weight_decay) in expected.items():
        assert found[parameter] == (pytest.approx(scale, rel=1e-12), weight_decay), parameter


SMALL = Arch(name="small", img_size=32, patch_size=8, width=64, depth=3, num_heads=2)
WITH_PARTS = {
    "registers and layer scale": dataclasses.replace(SMALL, num_registers=2, layer_scale=True),
    "a table a block": dataclasses.replace(
        SMALL, relative_positions="block", layer_scale=True, absolute_positions=False
    ),
    "one table": dataclasses.replace(SMALL, relative_positions="shared"),
    "rotary": dataclasses.replace(
        SMALL, timm_name="eva02_tiny_patch14_224", patch_size=16, depth=12
    ),
    "rotary, registers": dataclasses.replace(
        SMALL, timm_name="vit_small_patch16_dinov3", patch_size=16, depth=12
    ),
}


@pytest.mark.parametrize("parts", WITH_PARTS)
def test_rates_grow_with_depth_in_every_kind_of_vit(parts: str) -> None:
    arch = WITH_PARTS[parts]
    with torch.device("meta"):
        model = arch.build_any(num_classes=10, pool="avg")
    config = OptimConfig(base_lr=1.0, weight_decay=0.05, layer_decay=0.5)
    found = settings_of(model, config)
    by_layer: dict[int, set[float]] = {}
    for name, (scale, weight_decay) in found.items():
        layer = -1
        if name.startswith("blocks."):
            layer = int(name.split(".")[1])
        elif name.startswith(("norm.", "fc_norm.", "head.")):
            layer = arch.depth
        by_layer.setdefault(layer, set()).add(scale)
        free = ("cls_token", "reg_token", "pos_embed", "gamma_1", "gamma_2", "bias", "bias_table")
        if name.endswith(free) or ".norm" in name or "norm." in name or ".ls" in name:
            assert weight_decay == 0.0, name
        else:
            assert weight_decay == 0.05, name
    expected = [{0.5 ** (arch.depth - layer)} for layer in range(-1, arch.depth + 1)]
    assert [by_layer[layer] for layer in sorted(by_layer)] == expected
    tables = [name for name in found if name.endswith("relative_position_bias_table")]
    assert len(tables) == {"a table a block": 3, "one table": 1}.get(parts, 0)


class Renamed(nn.Module):
    """A ViT under a name that its own declaration does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SMALL.build(num_classes=10)

    def group_matcher(self) -> dict:
        return self.backbone.group_matcher()


@pytest.mark.parametrize("model", [nn.Linear(2, 2), Renamed()], ids=["none", "inert"])
def test_a_decay_that_would_do_nothing_is_refused(model: nn.Module) -> None:
    with pytest.raises(InputError, match="layer_decay=1"):
        parameter_groups(model, OptimConfig(base_lr=1.0, layer_decay=0.9))
    assert {g["lr_scale"] for g in parameter_groups(model, OptimConfig(base_lr=1.0))} == {1.0}


def test_a_parameter_in_no_layer_is_refused() -> None:
    model = SMALL.build(num_classes=10)
    model.adapter = nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"adapter\.weight"):
        parameter_groups(model, OptimConfig(base_lr=1.0, layer_decay=0.9))


def test_layers_are_told_through_a_replica(tmp_path: Path) -> None:
    model = SMALL.build(num_classes=10)
    config = OptimConfig(base_lr=1.0, layer_decay=0.5)
    plain = settings_of(model, config)
    place = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=place, rank=0, world_size=1)
    try:
        assert settings_of(DistributedDataParallel(model), config) == plain
    finally:
        torch.distributed.destroy_process_group()
    for block in model.blocks:
        block.compile()
    assert settings_of(model, config) == plain


def test_a_decay_that_rises_starts_above_zero() -> None:
    with pytest.raises(InputError, match="weight_decay is 0; needed: above 0"):
        RisingDecay(base_lr=1.0, weight_decay=0.0, final_weight_decay=0.4)
