"""Attention of the last block, against softmax(Q K^T / sqrt d) written out from the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from micl_bench.backbone import named_arch
from micl_bench.checkpoints import load_checkpoint
from micl_bench.engine.frozen.pictures.network_pictures import (
    attention_arrays,
    last_attention,
    patch_attention,
)

CPU = torch.device("cpu")
KINDS = {
    "plain": ("vit_tiny_patch16_224", {"img_size": 64}),
    "registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 56, "depth": 2}),
    "no class token": ("vit_small_patch14_reg4_dinov2", {"img_size": 56, "class_token": False}),
    "BEiT": ("beit_base_patch16_224", {"img_size": 64}),
    "EVA-02": ("eva02_tiny_patch14_224", {"img_size": 56}),
    "DINOv3": ("vit_small_patch16_dinov3", {"img_size": 64}),
}


@pytest.fixture(scope="module", params=list(KINDS))
def vit(request: pytest.FixtureRequest) -> Any:
    name, options = KINDS[request.param]
    torch.manual_seed(0)
    if "class_token" in options:
        options = {**options, "global_pool": "avg"}
    model = timm.create_model(name, num_classes=0, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Far from the start, where attention is all but even.
            parameter.add_(0.08 * torch.randn_like(parameter))
    return model


def images_for(vit: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *vit.patch_embed.img_size, generator=generator)


def input_of(module: Any, vit: Any) -> tuple[Tensor, dict[str, Any]]:
    """What the module is called with in a forward pass."""
    caught: list[tuple[Tensor, dict[str, Any]]] = []
    hook = module.register_forward_pre_hook(
        lambda _, given, words: caught.append((given[0], words)), with_kwargs=True
    )
    vit.forward_features(images_for(vit))
    hook.remove()
    return caught[0]


def projected(module: Any, tokens: Tensor, part: int) -> Tensor:
    """Queries (0), keys (1) or values (2) of each head, by the weights."""
    if module.qkv is None:
        layer = (module.q_proj, module.k_proj, module.v_proj)[part]
        out = tokens @ layer.weight.T + (0 if layer.bias is None else layer.bias)
    else:
        width = module.qkv.weight.shape[0] // 3
        rows = slice(part * width, (part + 1) * width)
        out = tokens @ module.qkv.weight[rows].T
        if module.qkv.bias is not None:
            out = out + module.qkv.bias[rows]
        elif part != 1 and getattr(module, "q_bias", None) is not None:
            out = out + (module.q_bias if part == 0 else module.v_bias)
    return out.unflatten(-1, (module.num_heads, -1)).transpose(1, 2)


@torch.no_grad()
def test_rows_sum_to_one_and_mix_the_values_as_the_network_does(vit: Any) -> None:
    """For every kind: weights times values is what the fused kernel gives the output's projection."""
    attention = last_attention(vit, images_for(vit))
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    assert attention.std(-1).max() > 1e-3, "even attention would show nothing"
    module = vit.blocks[-1].attn
    assert module.fused_attn, "the network is left as it was"
    tokens, _ = input_of(module, vit)
    mixed = attention @ projected(module, tokens, 2)
    expected, _ = input_of(module.norm if hasattr(module, "norm") else module.proj, vit)
    torch.testing.assert_close(mixed.transpose(1, 2).flatten(2), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("vit", ["plain", "registers", "no class token", "BEiT"], indirect=True)
def test_it_is_the_softmax_of_queries_times_keys(vit: Any) -> None:
    module = vit.blocks[-1].attn
    tokens, _ = input_of(module, vit)
    query, key = (projected(module, tokens, part) for part in (0, 1))
    logits = torch.einsum("njtd,njsd->njts", query, key) / query.shape[-1] ** 0.5
    if getattr(module, "relative_position_bias_table", None) is not None:
        T = tokens.shape[1]
        rows = module.relative_position_bias_table[module.relative_position_index.flatten()]
        logits = logits + rows.reshape(T, T, -1).permute(2, 0, 1)
    exponential = torch.exp(logits - logits.amax(-1, keepdim=True))
    expected = exponential / exponential.sum(-1, keepdim=True)
    torch.testing.assert_close(last_attention(vit, images_for(vit)), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_map_is_the_row_of_cls_or_the_mean_row_of_patches(vit: Any) -> None:
    attention, maps = (read(vit, images_for(vit)) for read in (last_attention, patch_attention))
    prefix, L = vit.num_prefix_tokens, vit.patch_embed.num_patches
    assert maps.shape == (2, attention.shape[1], L)
    for place in (0, L // 2, L - 1):
        column = attention[..., prefix + place]
        if vit.cls_token is not None:
            expected = column[..., 0]
        else:
            expected = sum(column[..., prefix + other] for other in range(L)) / L
        torch.testing.assert_close(maps[..., place], expected)
    assert (maps.sum(-1) < 1 + 1e-5).all()


def test_arrays_of_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = load_checkpoint("random:vit_demo_patch4_32")
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    arrays = attention_arrays(checkpoint, images, device=CPU)
    heads = named_arch("vit_demo_patch4_32").num_heads
    assert arrays["attention_NJYX"].shape == (3, heads, 16, 16)
    assert str(arrays["query"]) == "[CLS]"
    np.testing.assert_array_equal(arrays["images_NHWC"][1, 5, 7], images[1, :, 5, 7])
    vit = checkpoint.backbone(img_size=64)
    with torch.no_grad():
        expected = patch_attention(vit, checkpoint.normalise(images))
    np.testing.assert_array_equal(arrays["attention_NJYX"][2, 1, 3, 9], expected[2, 1, 3 * 16 + 9])
