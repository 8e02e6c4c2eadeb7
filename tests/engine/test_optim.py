"""Learning rates and weight decay of every parameter, and the schedule against its formula."""

import math

import pytest

from micl_bench.backbone import named_arch
from micl_bench.engine.optim import OptimConfig, learning_rate, parameter_groups


def test_rates_grow_with_depth_and_vectors_do_not_decay() -> None:
    model = named_arch("vit_demo_patch4_32").build(num_classes=10)
    config = OptimConfig(base_lr=1.0, weight_decay=0.05, layer_decay=0.5)
    found = {}
    for group in parameter_groups(model, config):
        for parameter in group["params"]:
            found[id(parameter)] = (group["lr_scale"], group["weight_decay"])
    settings = {name: found[id(p)] for name, p in model.named_parameters()}
    # Depth 4: the patch projection lies 5 layers below the head.
    assert settings["patch_embed.proj.weight"] == (0.5**5, 0.05)
    assert settings["pos_embed"] == settings["cls_token"] == (0.5**5, 0.0)
    for block in range(4):
        assert settings[f"blocks.{block}.mlp.fc1.weight"] == (0.5 ** (4 - block), 0.05)
        assert settings[f"blocks.{block}.norm1.weight"] == (0.5 ** (4 - block), 0.0)
        assert settings[f"blocks.{block}.mlp.fc1.bias"] == (0.5 ** (4 - block), 0.0)
    assert settings["norm.weight"] == (1.0, 0.0)
    assert settings["head.weight"] == (1.0, 0.05)


def test_a_frozen_parameter_is_left_out() -> None:
    model = named_arch("vit_demo_patch4_32").build()
    assert model.pos_embed is not None
    model.pos_embed.requires_grad_(False)
    groups = parameter_groups(model, OptimConfig(base_lr=1.0))
    assert all(p is not model.pos_embed for group in groups for p in group["params"])


def test_schedule_is_a_linear_warmup_and_a_half_cosine() -> None:
    rates = [learning_rate(s, peak=2.0, warmup_steps=4, total_steps=12) for s in range(13)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    expected = [1 + math.cos(math.pi * (step - 4) / 8) for step in range(4, 13)]
    assert rates[4:] == pytest.approx(expected)
