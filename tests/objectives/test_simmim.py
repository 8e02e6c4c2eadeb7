"""SimMIM against a naive twin over whole images, and real runs."""

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints.layouts import LAYOUTS
from support import REPOSITORY, finish, losses, overrides, signalled
from torch import Tensor, nn

from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.visible import Seen
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives import Bound
from micl_bench.objectives.simmim import PixelHead, SimMIM, draw_units, masked_units
from micl_bench.runs.states import States
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError

N, GRID, PATCH = 3, 6, 4
ARCH = Arch(name="test", img_size=24, patch_size=PATCH, width=32, depth=2, num_heads=2)


@pytest.fixture
def bound() -> Bound:
    objective, vit = SimMIM(), ARCH.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    added = objective.added(vit)
    for parameter in (*vit.parameters(), *added.parameters()):
        if parameter.ndim == 1:
            # Away from the identity, so that leaving one out would show.
            nn.init.uniform_(parameter, 0.5, 1.5)
    return Bound(objective, ARCH, vit, added).eval()


@pytest.fixture
def images_NCHW() -> Tensor:
    return torch.randn(N, 3, 24, 24, generator=torch.Generator().manual_seed(2))


def masks_of(keep_N1L: Tensor, visible: int) -> np.ndarray:
    """The masks (N, rows, columns) as the paper has them: 1 where a patch is masked."""
    masks = np.ones((len(keep_N1L), GRID, GRID), dtype=int)
    for mask, kept in zip(masks, keep_N1L[:, 0, :visible].tolist(), strict=True):
        for place in kept:
            mask[divmod(place, GRID)] = 0
    return masks


def loss_by_hand(bound: Bound, images_NCHW: Tensor, masks: np.ndarray) -> Tensor:
    """The whole image through timm's modules, patches in the order of the picture; a convolution and
    PixelShuffle to pixels; the loss pixel by pixel."""
    vit, head = bound.vit, bound.added
    assert isinstance(head, PixelHead)
    convolution = nn.Conv2d(32, 3 * PATCH**2, kernel_size=1).to(images_NCHW)
    convolution.weight = nn.Parameter(head.decoder.weight.detach()[:, :, None, None])
    convolution.bias = nn.Parameter(head.decoder.bias.detach())
    embedded_NLD = vit.patch_embed(images_NCHW).clone()
    for image, mask in enumerate(masks):
        for place in range(GRID * GRID):
            if mask[divmod(place, GRID)]:
                embedded_NLD[image, place] = head.mask_token[0, 0]
    tokens = torch.cat([vit.cls_token.expand(len(masks), -1, -1), embedded_NLD], dim=1)
    tokens = vit.norm(vit.blocks(tokens + vit.pos_embed))[:, 1:]
    maps = tokens.transpose(1, 2).reshape(len(masks), 32, GRID, GRID)
    predicted = nn.PixelShuffle(PATCH)(convolution(maps))
    total, pixels = images_NCHW.new_zeros(()), 0
    for image, mask in enumerate(masks):
        for row in range(24):
            for column in range(24):
                if mask[row // PATCH, column // PATCH]:
                    pixels += 1
                    error = images_NCHW[image, :, row, column] - predicted[image, :, row, column]
                    total = total + error.abs().sum()
    return total / (pixels + 1e-5) / 3


def test_loss_and_gradient_are_those_of_a_naive_twin(bound: Bound, images_NCHW: Tensor) -> None:
    bound, images_NCHW = bound.double(), images_NCHW.double()
    keep_N1L = draw_units(3, 0, np.arange(N), grid=GRID, unit=2)
    visible = 4 * (9 - 6)
    loss = bound(images_NCHW, keep_N1L[:, :, :visible]).loss
    expected = loss_by_hand(bound, images_NCHW, masks_of(keep_N1L, visible))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    weights = [
        *(bound.vit.patch_embed.proj.weight, bound.vit.cls_token, bound.added.mask_token),
        *(bound.vit.norm.bias, bound.vit.blocks[0].attn.qkv.weight),
    ]
    ours = torch.autograd.grad(loss, weights)
    theirs = torch.autograd.grad(expected, weights)
    for one, other in zip(ours, theirs, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_branches_are_left_out_image_by_image(bound: Bound, images_NCHW: Tensor) -> None:
    # Two blocks: the branches of the second are left out with probability 0.5, or count double.
    objective = SimMIM(SimMIM.Config(drop_path=0.5))
    vit = ARCH.build().train()
    added = objective.added(vit)
    index_N = np.arange(40)
    seen = objective.wants(ARCH).of_images(images_NCHW[:1].expand(40, -1, -1, -1), index_N, seed=0)
    weights_NR = seen.drawn["paths_NR"]
    assert {*weights_NR.flatten().tolist()} == {0.0, 2.0}
    rows = objective.encode(vit, added, seen)
    for image in (0, 7):
        plain = ARCH.build().eval()
        plain.load_state_dict(vit.state_dict())
        for layer, weight in zip(
            (plain.blocks[1].attn.proj, plain.blocks[1].mlp.fc2), weights_NR[image], strict=True
        ):
            layer.weight.data *= weight
            layer.bias.data *= weight
        keep = seen.keep_NVK[image : image + 1]
        alone = Seen(seen.visible_NMP[image : image + 1], keep, {"paths_NR": torch.empty(1, 0)})
        expected = SimMIM(SimMIM.Config(drop_path=0.0)).encode(plain, added, alone)
        torch.testing.assert_close(rows[image : image + 1], expected, rtol=1e-4, atol=1e-3)
    # In evaluation nothing is left out.
    vit.eval()
    assert not torch.equal(objective.encode(vit, added, seen), rows)


def test_the_mean_colour_of_visible_patches_in_closed_form(bound: Bound) -> None:
    # Visible patches of 1, 2 and 3 in the channels, masked ones of 0: the loss of the colour is 2.
    keep_N1L = draw_units(3, 0, np.arange(N), grid=GRID, unit=2)
    mask = np.kron(masks_of(keep_N1L, 12), np.ones((PATCH, PATCH), dtype=int))
    colours = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None]
    images_NCHW = colours * (1 - torch.from_numpy(mask)[:, None].float())
    nn.init.zeros_(bound.added.decoder.weight)
    nn.init.zeros_(bound.added.decoder.bias)
    output = bound(images_NCHW, keep_N1L[:, :, :12])
    assert output.loss.item() == 0
    assert output.numbers["loss_of_mean_colour"].item() == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize(
    ("units", "ratio", "masked"), [(49, 0.6, 30), (36, 0.6, 22), (16, 0.6, 10), (9, 0.5, 5)]
)
def test_units_are_counted_as_the_papers_code_rounds(units: int, ratio: float, masked: int) -> None:
    assert masked_units(units, mask_ratio=ratio) == int(np.ceil(units * ratio)) == masked


def test_units_are_masked_as_a_whole_and_by_seed_epoch_and_image() -> None:
    wants = SimMIM().wants(ARCH)
    index_N = np.array([4, 9, 4])
    keep_N1L = wants.draw(3, 1, index_N)
    assert keep_N1L.sort(dim=2).values.tolist() == [[list(range(GRID * GRID))]] * 3
    masks = masks_of(keep_N1L, 12)
    blocks = masks.reshape(3, 3, 2, 3, 2).sum(axis=(2, 4))
    assert {*blocks.flatten().tolist()} == {0, 4}
    assert (blocks == 4).sum(axis=(1, 2)).tolist() == [6, 6, 6]
    assert torch.equal(keep_N1L[0], keep_N1L[2])
    assert not torch.equal(keep_N1L[0], keep_N1L[1])
    assert not torch.equal(keep_N1L, wants.draw(3, 2, index_N))
    assert not torch.equal(keep_N1L, wants.draw(4, 1, index_N))
    # Each unit is masked equally often.
    many = masks_of(wants.draw(0, 0, np.arange(600)), 12)
    share = many[:, ::2, ::2].mean(axis=0)
    assert np.abs(share - 6 / 9).max() < 4 * math.sqrt(2 / 9 / 600)


def test_it_says_and_shows_what_it_sees() -> None:
    objective = SimMIM()
    assert objective.sees(ARCH) == "12 of 36 patches visible, the other 24 masked and predicted"
    keep_N1L = objective.wants(ARCH).draw(0, 0, np.arange(N))
    shown = objective.shown(keep_N1L, {})
    assert [*shown] == ["visible", "masked"]
    assert torch.equal(torch.cat([*shown.values()], dim=1), keep_N1L[:, 0])


def test_the_loss_is_fp32_under_autocast(bound: Bound, images_NCHW: Tensor) -> None:
    keep = draw_units(3, 0, np.arange(N), grid=GRID, unit=2)[:, :, :12]
    exact = bound(images_NCHW, keep).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = bound(images_NCHW, keep).loss
    assert loss.dtype == torch.float32
    assert loss.item() != exact.item()
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)


def test_defaults_are_the_published_ones_and_impossible_values_are_refused() -> None:
    assert SimMIM().config == SimMIM.Config(mask_ratio=0.6, unit_side=2, drop_path=0.1)
    with pytest.raises(InputError, match="unit_side is 4; needed: a divisor of the 6 patches"):
        SimMIM(SimMIM.Config(unit_side=4)).wants(ARCH)
    with pytest.raises(InputError, match="masks all of 9 units"):
        SimMIM(SimMIM.Config(mask_ratio=0.9)).wants(ARCH)
    for values in ({"mask_ratio": 0.0}, {"mask_ratio": 1.0}, {"unit_side": 0}):
        with pytest.raises(InputError, match="needed"):
            SimMIM.Config(**values)  # type: ignore[arg-type]
    token = SimMIM().added(ARCH.build()).mask_token
    assert 0 < token.abs().max() <= 0.02


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("mae-decoder", "does not hold SimMIM's own modules"),
        ("timm-registers", "is no plain ViT, which SimMIM needs"),
    ],
)
def test_files_without_its_own_modules_or_a_plain_vit_are_refused(
    tmp_path: Path, layout: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        SimMIM().from_checkpoint(LAYOUTS[layout](tmp_path))
    assert said in str(caught.value)


@pytest.mark.parametrize("size", "sb")
def test_imagenet_recipes_have_the_published_values(size: str) -> None:
    path = REPOSITORY / "pretrain" / f"imagenet_simmim_vit_{size}16.py"
    recipe = load_recipe(path, PretrainRecipe)
    assert recipe.objective == SimMIM.Config()
    assert (recipe.epochs, recipe.batch_size, recipe.optim.warmup_epochs) == (800, 2048, 10)
    # The rate in use: 1e-4 x 2048 / 512.
    assert recipe.optim.base_lr * recipe.batch_size / 256 == pytest.approx(4e-4)
    assert (recipe.optim.betas, recipe.optim.weight_decay) == ((0.9, 0.999), 0.05)
    assert recipe.optim.clip_norm == 5
    assert (recipe.pixels.crop_scale, recipe.pixels.flip) == ((0.67, 1.0), True)


SHORT = (
    "batch_size=16", "epochs=4", "knn_every_epochs=4", "save_every_steps=3", "knn_k=5",
    "optim.warmup_epochs=1",
)  # fmt: skip


def pretraining(data: Path, out: Path) -> list[str]:
    words = ["pretrain", "embedded_simmim", "--data", data, "--out", out]
    return [*map(str, words), *overrides(*SHORT)]


@pytest.mark.long
def test_a_run_that_a_signal_cuts_ends_with_the_same_bits(few_digits: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(pretraining(few_digits, whole))
    signalled(pretraining(few_digits, cut), cut, 7, signal.SIGTERM)
    assert 0 < len(losses(cut)) < len(losses(whole)) == 20
    assert "going on from step" in finish(pretraining(few_digits, cut))
    assert losses(cut) == losses(whole)
    ours, theirs = (States(out / "states").newest() for out in (cut, whole))
    assert ours
    assert theirs
    assert {"added.mask_token", "added.decoder.weight"} < ours["model"].keys()
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
