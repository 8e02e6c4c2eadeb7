"""Attention in windows against every pair of tokens looked at by itself, and against plain attention."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from openmmlab.vits import ARCHS, ATTENTIONS, pictures, saved
from timm.models.beit import gen_relative_position_index
from torch import Tensor

from micl_bench.openmmlab import MiCLViT
from micl_bench.openmmlab.windows import MapAttention, RelativeBias
from micl_bench.runtime.errors import InputError

GRIDS = [(4, 4), (6, 6), (5, 7), (3, 8), (2, 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vits")


def sees(grid: tuple[int, int], window: int, prefix: int) -> Tensor:
    """Which token attends to which, by the definition."""
    places = [None] * prefix + [(y, x) for y in range(grid[0]) for x in range(grid[1])]

    def one(query: tuple[int, int] | None, key: tuple[int, int] | None) -> bool:
        if query is None or key is None or window == 0:
            return True
        return all(q // window == k // window for q, k in zip(query, key, strict=True))

    return torch.tensor([[one(query, key) for key in places] for query in places])


def naive(qkv: list[Tensor], seen_TT: Tensor, bias_HTT: Tensor | float) -> Tensor:
    query, key, value = qkv
    logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]) + bias_HTT
    return logits.masked_fill(~seen_TT, -math.inf).softmax(dim=-1) @ value


def timms_bias(table_RH: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    index_TT = gen_relative_position_index(grid)
    return table_RH[index_TT].permute(2, 0, 1)[:, 1 - prefix :, 1 - prefix :]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("window", [0, 1, 2, 3, 5, 9])
@pytest.mark.parametrize("grid", GRIDS)
def test_attention_and_its_gradients_are_those_of_every_pair_of_tokens(
    grid: tuple[int, int], window: int, prefix: int, biased: bool
) -> None:
    tokens = prefix + grid[0] * grid[1]
    qkv = [pictures(2, 3, tokens, 8, seed=seed).double().requires_grad_() for seed in range(3)]
    rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
    table_RH = pictures(rows, 3, seed=3).double().requires_grad_()
    attention = MapAttention(
        grid,
        num_prefix_tokens=prefix,
        window_size=window,
        bias=RelativeBias(table_RH, grid) if biased else None,
    )
    # What timm's block would add is for another map, and must not count.
    own = torch.ones(1, 3, 1, 1).double() * torch.arange(tokens) if biased else None
    found = attention.run(
        lambda _: F.scaled_dot_product_attention(*qkv, attn_mask=own), torch.empty(0)
    )
    bias_HTT = timms_bias(table_RH, grid, prefix) if biased else 0.0
    expected = naive(qkv, sees(grid, window, prefix), bias_HTT)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    weights = pictures(*found.shape, seed=4).double()
    inputs = [*qkv, table_RH] if biased else qkv
    for mine, naives in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, naives, atol=1e-12, rtol=1e-12)


def test_registers_are_seen_from_every_window() -> None:
    qkv = [pictures(2, 3, 4 + 35, 8, seed=seed).double() for seed in range(3)]
    attention = MapAttention((5, 7), num_prefix_tokens=4, window_size=3)
    found = attention.run(lambda _: F.scaled_dot_product_attention(*qkv), torch.empty(0))
    torch.testing.assert_close(found, naive(qkv, sees((5, 7), 3, 4), 0.0))


@pytest.mark.parametrize("prefix_tokens", [True, False])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_window_over_the_map_is_plain_attention(
    folder: Path, name: str, prefix_tokens: bool
) -> None:
    patch = ARCHS[name].patch_size
    images_NCHW = pictures(2, 3, 5 * patch, 3 * patch)
    maps = []
    for options in ({}, {"window_size": 5, "global_blocks": []}):
        vit = MiCLViT(
            saved(folder, name), drop_path=0.5, prefix_tokens=prefix_tokens, **options
        ).train()
        # Drawn for each image of each block, in windows too.
        torch.manual_seed(1)
        maps.append(vit.patch_maps(images_NCHW))
    for plain_NDhw, windowed_NDhw in zip(*maps, strict=True):
        torch.testing.assert_close(windowed_NDhw, plain_NDhw, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["no-class-token", "beit", "eva"])
def test_nothing_leaks_into_another_window(folder: Path, name: str) -> None:
    vit = MiCLViT(
        saved(folder, name),
        strides=(16,),
        prefix_tokens=False,
        window_size=2,
        global_blocks=[],
    ).eval()
    p = vit.patch_size
    # 5 x 3 patches, of which the last row and column are padded: windows of 2 and of 1 patches.
    images_NCHW = pictures(1, 3, 5 * p - 3, 3 * p - 3)
    changed_NCHW = images_NCHW.clone()
    changed_NCHW[..., 2 * p : 4 * p, : 2 * p] += 1.0
    with torch.no_grad():
        (before_NDhw,), (after_NDhw,) = map(vit.patch_maps, (images_NCHW, changed_NCHW))
    moved_hw = (before_NDhw != after_NDhw).any(dim=1)[0]
    expected_hw = torch.zeros(5, 3, dtype=torch.bool)
    expected_hw[2:4, :2] = True
    assert torch.equal(moved_hw, expected_hw)


def test_a_global_block_carries_it_everywhere(folder: Path) -> None:
    vit = MiCLViT(
        saved(folder, "plain"), strides=(16,), prefix_tokens=False, window_size=2, global_blocks=[3]
    ).eval()
    images_NCHW = pictures(1, 3, 32, 32)
    images_NCHW.requires_grad_()
    (map_NDhw,) = vit.patch_maps(images_NCHW)
    map_NDhw[..., 0, 0].sum().backward()
    assert images_NCHW.grad is not None
    assert (images_NCHW.grad != 0).flatten(1).all()


def test_the_last_block_of_each_quarter_is_global(folder: Path) -> None:
    assert MiCLViT(saved(folder, "eva"), window_size=2).global_blocks == [2, 5, 8, 11]
    assert MiCLViT(saved(folder, "clip"), window_size=2).global_blocks == [2, 4, 7, 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_size": -1}, "window_size is -1"),
        ({"global_blocks": [1]}, "says nothing without windows"),
        ({"window_size": 2, "global_blocks": [4]}, r"global_blocks \[4\]"),
    ],
)
def test_wrong_windows_are_refused(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MiCLViT(saved(folder, "plain"), **options)


@pytest.mark.parametrize("name", ["plain", "beit"])
def test_attention_that_cannot_be_replaced_is_an_error(folder: Path, name: str) -> None:
    vit = MiCLViT(saved(folder, name), window_size=2, global_blocks=[])
    for block in vit.vit.blocks:
        block.attn.fused_attn = False
    with pytest.raises(InputError, match="TIMM_FUSED_ATTN=1"):
        vit(pictures(1, 3, 32, 32))


def test_windows_under_autocast_are_of_its_type(folder: Path) -> None:
    vit = MiCLViT(saved(folder, "beit"), strides=(16,), window_size=3, global_blocks=[]).eval()
    images_NCHW = pictures(1, 3, 40, 56)
    with torch.no_grad():
        (wide_NDhw,) = vit.patch_maps(images_NCHW)
        with torch.autocast("cpu", torch.bfloat16):
            (narrow_NDhw,) = vit.patch_maps(images_NCHW)
    torch.testing.assert_close(narrow_NDhw.float(), wide_NDhw, atol=0.15, rtol=0.05)
