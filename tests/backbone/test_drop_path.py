"""Stochastic depth whose draws belong to images."""

import numpy as np
import pytest
import torch
from timm.layers import DropPath

from micl_bench.backbone import Arch, Vit
from micl_bench.backbone.drop_path import DropPaths, GivenPaths

ARCH = Arch(name="test", img_size=16, patch_size=8, width=32, depth=3, num_heads=2)


def model(**parts: object) -> Vit:
    torch.manual_seed(0)
    return Arch(**{**vars(ARCH), **parts}).build_any(drop_path=0.4)


@pytest.mark.parametrize(
    "parts", [{}, {"relative_positions": "block", "layer_scale": True}], ids=str
)
def test_every_path_keeps_its_probability(parts: dict[str, object]) -> None:
    vit = model(**parts)
    expected = [m.drop_prob for m in vit.modules() if isinstance(m, DropPath)]
    paths = DropPaths(vit, seed=0)
    found = [m.drop_probability for m in vit.modules() if isinstance(m, GivenPaths)]
    # The first block's is 0, which timm leaves out; two branches each.
    assert found == expected == pytest.approx([0.2, 0.2, 0.4, 0.4])
    assert not any(isinstance(m, DropPath) for m in vit.modules())
    weights_RN = paths.weights(0, np.arange(4000))
    for probability, weight_N in zip(found, weights_RN, strict=True):
        assert weight_N.unique().tolist() == pytest.approx([0.0, 1 / (1 - probability)])
        # Deviation of the mean: below 0.013.
        assert weight_N.mean().item() == pytest.approx(1.0, abs=0.05)


def test_draws_are_an_images_own() -> None:
    paths = DropPaths(model(), seed=0)
    whole_RN = paths.weights(1, np.arange(100))
    assert torch.equal(paths.weights(1, np.array([70, 3])), whole_RN[:, [70, 3]])
    assert not torch.equal(paths.weights(2, np.arange(100)), whole_RN)
    assert not torch.equal(DropPaths(model(), seed=1).weights(1, np.arange(100)), whole_RN)


def test_in_training_branches_are_left_out_and_in_evaluation_none() -> None:
    plain, vit = model().eval(), model()
    paths = DropPaths(vit, seed=0)
    images_NCHW = torch.randn(5, 3, 16, 16)
    expected = plain.forward_features(images_NCHW)
    assert torch.equal(vit.eval().forward_features(images_NCHW), expected)
    paths.give(torch.ones(4, 5))
    assert torch.equal(vit.train().forward_features(images_NCHW), expected)
    # All of the last two blocks' branches left out for the second image alone.
    weights_RN = torch.ones(4, 5)
    weights_RN[:, 1] = 0
    paths.give(weights_RN)
    found = vit.forward_features(images_NCHW)
    plain.blocks = plain.blocks[:1]
    assert torch.allclose(found[1], plain.forward_features(images_NCHW)[1], atol=1e-6)
    others = [0, 2, 3, 4]
    assert torch.allclose(found[others], expected[others], atol=1e-6)
