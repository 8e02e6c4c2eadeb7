"""Architectures by name: ours, and every plain ViT of timm; what is none is refused with the reason."""

import dataclasses
from pathlib import Path

import pytest
import timm
import torch

from micl_bench.backbone import arch_names, init_mae_, named_arch
from micl_bench.checkpoints import load_checkpoint
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.micl import MiCL
from micl_bench.records.names import arch_label
from micl_bench.runtime.config import load_recipe, override
from micl_bench.runtime.errors import InputError

PLAIN = ("vit_tiny_patch16_224", "vit_base_patch32_224", "deit_small_patch16_224")


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_vit_of_timm_is_built_as_timm_builds_it(name: str) -> None:
    arch = named_arch(name)
    assert arch.is_plain
    with torch.device("meta"):
        expected = timm.create_model(name, num_classes=0)
        found = arch.build()
    assert str(found) == str(expected)
    shapes = {key: value.shape for key, value in expected.state_dict().items()}
    assert {key: value.shape for key, value in found.state_dict().items()} == shapes
    assert found.blocks[0].attn.num_heads == expected.blocks[0].attn.num_heads


def test_it_can_be_pre_trained_and_drawn_at_random() -> None:
    whole = load_recipe(Path(__file__).parents[2] / "pretrain" / "embedded.py", PretrainRecipe)
    recipe = override(whole, ["arch=vit_tiny_patch16_224", "pixels.img_size=64"])
    assert (recipe.sized_arch().width, recipe.sized_arch().img_size) == (192, 64)
    init_mae_(recipe.sized_arch().build())
    loaded = load_checkpoint("random:vit_tiny_patch16_224")
    assert (loaded.arch.num_heads, loaded.method) == (3, "random weights")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("vit_base_patch14_reg4_dinov2", "registers or further tokens"),
        ("vit_base_patch16_siglip_224", r"no \[CLS\]"),
        ("deit3_small_patch16_224", r"no absolute position of \[CLS\]"),
        ("vit_base_patch16_clip_224", "other layers"),
        ("vit_small_r26_s32_224", "convolutional network in front"),
        ("beit_base_patch16_224", "relative positions"),
        ("vit_small_patch16_dinov3", "rotary positions"),
        ("resnet18", "the layers of timm's ResNet"),
        ("vit_nothing", "no architecture is called 'vit_nothing'"),
        ("vit_tiny_patch16_224.augreg_in21k", "the architecture is called vit_tiny_patch16_224"),
    ],
)
def test_what_is_no_plain_vit_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        named_arch(name)


def test_refusals_name_examples_that_work() -> None:
    with pytest.raises(InputError) as caught:
        named_arch("resnet18")
    words = str(caught.value)
    assert all(name.removesuffix("_nocls") in words for name in arch_names())
    assert words.endswith("; NAME_nocls has no [CLS]")
    for name in words.partition("such as ")[2].partition(";")[0].split(", "):
        assert named_arch(name).is_plain
        assert not named_arch(f"{name}_nocls").class_token


@pytest.mark.parametrize("name", ["vit_demo_patch4_32", "vit_tiny_patch16_224"])
def test_every_plain_vit_is_known_without_class_token(name: str) -> None:
    plain, arch = named_arch(name), named_arch(f"{name}_nocls")
    assert arch == dataclasses.replace(plain, name=f"{name}_nocls", class_token=False)
    assert arch.num_prefix_tokens == 0
    with torch.device("meta"):
        model = arch.build()
    missing = plain.build().state_dict().keys() - model.state_dict().keys()
    assert missing == {"cls_token"}
    assert model.pos_embed.shape[1] == plain.num_patches
    loaded = load_checkpoint(f"random:{arch.name}")
    assert (loaded.arch, loaded.content.pool) == (arch, "avg")


def test_papers_call_it_by_the_same_name() -> None:
    assert arch_label("vit_small_patch16_224_nocls") == "ViT-S/16"


def test_methods_with_class_token_need_it() -> None:
    needed = r"MiCL needs \[CLS\], which .*_nocls lacks; set arch=vit_small_patch16_224$"
    with pytest.raises(InputError, match=needed):
        MiCL().wants(named_arch("vit_small_patch16_224_nocls"))
