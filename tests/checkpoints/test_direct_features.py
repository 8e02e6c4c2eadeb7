"""Features of layouts that no library makes equal those of the published equations."""

from pathlib import Path

import pytest
import torch
from direct import bicubic_positions, moco_positions, tokens
from layouts_foreign import FOREIGN, dinov2_vit
from layouts_parts import HEADS, SIZE, WIDTH, State, numbers, plain_vit
from torch import Tensor

from micl_bench.checkpoints import load_backbone, load_checkpoint, load_classifier

LARGER = 48
GRID_LARGER = LARGER // 8
TOLERANCE = 1e-5


def images(size: int) -> Tensor:
    """Not smooth, so that a wrong place or order shows."""
    return numbers(2, 3, size, size, seed=99) * 10


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def dinov2_as_gammas(*, registers: int = 0) -> State:
    """The tensors that `direct.tokens` reads, layer scale under its name there."""
    return {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): value
        for name, value in dinov2_vit(registers=registers).items()
    }


# (fixture, branch, what was written, offset of the method's interpolation)
PLAIN = [
    ("dino", None, plain_vit(seed=1), 0.1),
    ("dino", "student", plain_vit(seed=2), 0.1),
    ("dino-teacher", None, plain_vit(seed=1), 0.1),
    ("ibot", None, plain_vit(seed=1), 0.1),
    ("ibot", "student", plain_vit(seed=2), 0.1),
    ("msn", None, plain_vit(seed=1), 0.0),
    ("msn", "encoder", plain_vit(seed=2), 0.0),
    ("ijepa", None, plain_vit(seed=1, cls=False), 0.0),
    ("ijepa", "encoder", plain_vit(seed=2, cls=False), 0.0),
    ("dinov2", None, dinov2_as_gammas(), 0.1),
    ("dinov2-teacher", None, dinov2_as_gammas(), 0.1),
    ("openmmlab", None, plain_vit(seed=1), 0.0),
    ("openmmlab-timm", None, plain_vit(seed=1), 0.0),
]


@pytest.mark.parametrize(("name", "branch", "state", "offset"), PLAIN)
def test_plain_vits(
    tmp_path: Path, name: str, branch: str | None, state: State, offset: float
) -> None:
    path = FOREIGN[name](tmp_path)
    found = load_backbone(path, branch=branch).forward_features(images(SIZE))
    assert_same(found, tokens(state, images(SIZE), heads=HEADS))
    larger = load_backbone(path, branch=branch, img_size=LARGER).forward_features(images(LARGER))
    positions = bicubic_positions(
        state["pos_embed"], GRID_LARGER, prefix=int("cls_token" in state), offset=offset
    )
    assert_same(larger, tokens(state, images(LARGER), heads=HEADS, positions_1TD=positions))


@pytest.mark.parametrize(
    ("name", "branch", "width", "heads"),
    [
        ("moco_v3", "base", 128, 2),
        ("moco_v3", "momentum", 128, 2),
        ("moco_v3-small", "base", 384, 12),
    ],
)
def test_moco_v3(tmp_path: Path, name: str, branch: str, width: int, heads: int) -> None:
    path = FOREIGN[name](tmp_path)
    stored = plain_vit(seed={"base": 1, "momentum": 2}[branch], width=width)
    # In double precision: the wider ViT's rounding alone comes near the tolerance.
    state = {name: value.double() for name, value in stored.items()}
    for size in (SIZE, LARGER):
        backbone = load_backbone(path, branch=branch, img_size=size).double()
        positions = moco_positions(size // 8, width).double()
        expected = tokens(state, images(size).double(), heads=heads, positions_1TD=positions)
        assert_same(backbone.forward_features(images(size).double()), expected)


def normalised(x: Tensor, state: State, name: str) -> Tensor:
    return torch.nn.functional.layer_norm(
        x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6
    )


def test_openmmlabs_heads(tmp_path: Path) -> None:
    path = FOREIGN["openmmlab"](tmp_path)
    weight, bias = numbers(3, WIDTH, seed=5), numbers(3, seed=6)
    class_token = tokens(plain_vit(seed=1), images(SIZE), heads=HEADS)[:, 0]
    assert_same(load_classifier(path)(images(SIZE)), class_token @ weight.T + bias)
    assert load_checkpoint(path).classes == ("tench", "goldfish", "shark")
    path = FOREIGN["openmmlab-avg"](tmp_path)
    last = tokens(plain_vit(seed=1), images(SIZE), heads=HEADS, final_norm=False)
    pooled = normalised(last[:, 1:].mean(dim=1), plain_vit(seed=1), "norm")
    assert_same(load_classifier(path)(images(SIZE)), pooled @ weight.T + bias)
