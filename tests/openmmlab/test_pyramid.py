"""Rescaling and the simple pyramid: shapes, parameters counted by hand, and the same written out."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from openmmlab.vits import pictures
from torch import Tensor, nn

from micl_bench.openmmlab import MiCLViT
from micl_bench.openmmlab.pyramid import Rescale, SimpleFeaturePyramid
from micl_bench.runtime.errors import InputError

DEMO = "random:vit_demo_patch4_32"


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def normed(map_NChw: Tensor, norm: nn.Module) -> Tensor:
    """Layer norm over channels, written out."""
    centred = map_NChw - map_NChw.mean(dim=1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]


def doubled(map_NChw: Tensor, layer: nn.Module) -> Tensor:
    """A transposed convolution of stride 2 as a matrix product a pixel."""
    blocks = torch.einsum("nchw,cdyx->ndhywx", map_NChw, layer.weight)
    return blocks.flatten(4, 5).flatten(2, 3) + layer.bias[:, None, None]


def test_rescaling_by_pooling_takes_the_maximum() -> None:
    map_NDhw = torch.arange(16.0).reshape(1, 1, 4, 4)
    pooled = Rescale(1, patch_size=4, stride=8)(map_NDhw)
    assert pooled.flatten().tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize("patches", [23, 37, 58])
def test_maps_of_patch_14_lie_exactly_a_stride_apart(stride: int, patches: int) -> None:
    # Each patch holds the place of its middle, so each pixel of the map must hold its own.
    middles = 14 * (torch.arange(float(patches)) + 0.5)
    map_NDhw = middles.expand(1, 1, patches, patches)
    columns = Rescale(1, patch_size=14, stride=stride)(map_NDhw)[0, 0, 0]
    assert len(columns) == -(-14 * patches // stride)
    expected = stride * (torch.arange(float(len(columns))) + 0.5)
    # Beyond the outer patches' middles there is nothing to interpolate.
    inside = (expected > middles[0]) & (expected < middles[-1])
    torch.testing.assert_close(columns[inside], expected[inside], atol=1e-2, rtol=0)


def test_rescaling_from_16_to_4_is_two_transposed_convolutions() -> None:
    rescale, map_NDhw = Rescale(6, patch_size=16, stride=4), pictures(2, 6, 3, 5)
    first, norm, _, second = rescale.layers
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    expected = doubled(F.gelu(normed(doubled(map_NDhw, first), norm)), second)
    torch.testing.assert_close(rescale(map_NDhw), expected)
    assert parameters_of(rescale) == 2 * (6 * 6 * 4 + 6) + 2 * 6


def test_the_pyramid_is_what_the_paper_says() -> None:
    neck, map_NDhw = SimpleFeaturePyramid(8, 6), pictures(2, 8, 4, 6)
    for name, parameter in neck.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
        assert not name.endswith("levels.2.0.bias")
    finest, fine, same, coarse = neck.levels

    def projected(map_NChw: Tensor, layers: list[nn.Module]) -> Tensor:
        one, norm, three, last_norm = layers
        mixed = torch.einsum("nchw,dc->ndhw", map_NChw, one.weight[:, :, 0, 0])
        windows = F.unfold(normed(mixed, norm), 3, padding=1)
        mixed = (three.weight.flatten(1) @ windows).unflatten(2, map_NChw.shape[2:])
        return normed(mixed, last_norm)

    quarter = normed(doubled(map_NDhw, finest[0]), finest[1])
    quarter = doubled(F.gelu(quarter), finest[3])
    pooled = map_NDhw.unflatten(3, (3, 2)).unflatten(2, (2, 2)).amax(dim=(3, 5))
    expected = [
        projected(quarter, list(finest[4:])),
        projected(doubled(map_NDhw, fine[0]), list(fine[1:])),
        projected(map_NDhw, list(same)),
        projected(pooled, list(coarse[1:])),
    ]
    expected.append(expected[-1][:, :, ::2, ::2])
    for found, level in zip(neck((map_NDhw,)), expected, strict=True):
        torch.testing.assert_close(found, level, atol=1e-5, rtol=1e-5)


def test_parameters_of_the_pyramid_of_vitdets_vit_b() -> None:
    neck = SimpleFeaturePyramid(768)
    # Two convolutions without bias and two norms a level; 1 x 1 from 192, 384, 768, 768 channels.
    levels = 4 * (256 * 256 * 9 + 2 * 2 * 256) + 256 * (192 + 384 + 768 + 768)
    # One transposed convolution from 768 to 384 in two levels, one from 384 to 192, one norm.
    doubling = 2 * (768 * 384 * 4 + 384) + (384 * 192 * 4 + 192) + 2 * 384
    assert parameters_of(neck) == levels + doubling


@pytest.mark.parametrize("size", [(64, 96), (50, 39), (32, 32)])
@pytest.mark.parametrize("patch_size", [8, 16, 32])
def test_levels_have_the_strides_asked_for(patch_size: int, size: tuple[int, int]) -> None:
    neck = SimpleFeaturePyramid(16, 4, patch_size=patch_size)
    rows, columns = (-(-side // patch_size) for side in size)
    levels = neck((pictures(1, 16, rows, columns),))
    for stride, level in zip((4, 8, 16, 32), levels, strict=False):
        # Of the padded image, which is whole patches.
        sides = [-(-side * patch_size // stride) for side in (rows, columns)]
        assert level.shape == (1, 4, *sides)
    assert len(levels) == 5
    assert levels[4].shape[2:] == tuple(-(-side // 2) for side in levels[3].shape[2:])


@pytest.mark.parametrize("library", ["mmseg", "mmdet"])
def test_both_libraries_find_the_neck_and_it_fits_the_backbone(library: str) -> None:
    init_default_scope(library)
    registry = importlib.import_module(f"{library}.registry")
    config = {"in_channels": 128, "out_channels": 16, "patch_size": 4, "strides": [2, 4, 8, 16]}
    neck = registry.MODELS.build({"type": "SimpleFeaturePyramid", **config})
    backbone = {"type": "MiCLViT", "checkpoint": DEMO, "strides": (4,), "final_norm": False}
    vit = registry.MODELS.build({**backbone, "prefix_tokens": False})
    assert isinstance(neck, SimpleFeaturePyramid)
    assert isinstance(vit, MiCLViT)
    levels = neck(vit(pictures(1, 3, 32, 48)))
    sizes = [tuple(level.shape[2:]) for level in levels]
    assert sizes == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    sum(level.square().sum() for level in levels).backward()
    assert all(parameter.grad is not None for parameter in [*neck.parameters(), *vit.parameters()])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"no whole number of doublings leads from stride 14 to 4"):
        SimpleFeaturePyramid(16, patch_size=14)
    with pytest.raises(InputError, match="num_outs is 3, but there are 4 strides"):
        SimpleFeaturePyramid(16, num_outs=3)
    with pytest.raises(InputError, match="the backbone gives 4"):
        SimpleFeaturePyramid(128)(MiCLViT(DEMO)(pictures(1, 3, 32, 32)))
