"""SimCLR against lightly's loss and projector, a loop in the paper's words, and closed forms."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor, nn

from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.visible import Seen
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives import Bound
from micl_bench.objectives.simclr import SimCLR, nt_xent_of_rows
from micl_bench.patches import patchify
from micl_bench.runs.optim import OptimConfig
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError

ARCH = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)


def rows(number: int, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(number, 2, width, generator=generator, dtype=torch.float64)


def in_the_papers_words(rows_NVD: Tensor, temperature: float) -> float:
    """Algorithm 1: crops 2 k - 1 and 2 k are of one image; the mean of l over both orders."""
    z = [crop for image in rows_NVD for crop in image]

    def s(i: int, j: int) -> float:
        return float(z[i] @ z[j] / (z[i].norm() * z[j].norm()))

    def loss(i: int, j: int) -> float:
        others = [math.exp(s(i, k) / temperature) for k in range(len(z)) if k != i]
        return -math.log(math.exp(s(i, j) / temperature) / sum(others))

    number = len(rows_NVD)
    pairs = [loss(2 * k, 2 * k + 1) + loss(2 * k + 1, 2 * k) for k in range(number)]
    return sum(pairs) / (2 * number)


@pytest.mark.parametrize("number", [2, 3, 8])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_is_the_papers_and_lightlys(number: int, temperature: float) -> None:
    rows_NVD = rows(number)
    loss = nt_xent_of_rows(rows_NVD, rows_NVD, first=0, temperature=temperature)
    assert loss.item() == pytest.approx(in_the_papers_words(rows_NVD, temperature), rel=1e-12)
    lightlys = NTXentLoss(temperature=temperature)(rows_NVD[:, 0], rows_NVD[:, 1])
    assert loss.item() == pytest.approx(lightlys.item(), rel=1e-12)


def test_its_gradient_is_lightlys() -> None:
    ours, theirs = (rows(6).requires_grad_() for _ in range(2))
    nt_xent_of_rows(ours, ours, first=0, temperature=0.3).backward()
    NTXentLoss(temperature=0.3)(theirs[:, 0], theirs[:, 1]).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)


def test_equal_rows_are_at_chance_and_the_mean_of_parts_is_the_whole() -> None:
    equal = torch.ones(5, 2, 3)
    loss = nt_xent_of_rows(equal, equal, first=0, temperature=0.1)
    assert loss.item() == pytest.approx(math.log(9), rel=1e-6)
    rows_NVD = rows(6)
    parts = [
        nt_xent_of_rows(rows_NVD[first : first + 2], rows_NVD, first=first, temperature=0.2)
        for first in (0, 2, 4)
    ]
    whole = nt_xent_of_rows(rows_NVD, rows_NVD, first=0, temperature=0.2)
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-12)


def test_the_loss_is_fp32_under_autocast() -> None:
    rows_NVD = rows(4).float()
    exact = nt_xent_of_rows(rows_NVD, rows_NVD, first=0, temperature=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = nt_xent_of_rows(rows_NVD, rows_NVD, first=0, temperature=0.1)
    assert torch.equal(inside, exact)


def test_rows_are_timms_class_token_through_torchs_projector() -> None:
    objective, vit = SimCLR(), ARCH.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    added = objective.added(vit)
    vit.double(), added.double()
    generator = torch.Generator().manual_seed(1)
    images_BCHW = torch.randn(8, 3, 24, 24, generator=generator, dtype=torch.float64)
    # Images one after the other, each with two crops.
    visible_NMP = patchify(images_BCHW, 4).reshape(4, 72, 48)
    seen = Seen(visible_NMP, torch.arange(36).repeat(4, 2, 1))
    found = objective.encode(vit, added, seen)
    class_BD = vit.forward_features(images_BCHW)[:, 0]
    into, out = (one.weight for one in added.projector if isinstance(one, nn.Linear))
    assert into.shape == (32, 32)
    assert out.shape == (128, 32)
    hidden = nn.functional.batch_norm(class_BD @ into.T, None, None, training=True)
    expected = nn.functional.batch_norm(hidden.relu() @ out.T, None, None, training=True)
    torch.testing.assert_close(found, expected.view(4, 2, 128), rtol=1e-9, atol=1e-9)
    # Neither bias nor shift after the last layer, as in the authors' code.
    assert [name for name, _ in added.named_parameters() if "bias" in name] == ["projector.1.bias"]


def test_bound_to_its_networks_it_takes_crops_image_after_image() -> None:
    objective, vit = SimCLR(), ARCH.build()
    bound = Bound(objective, ARCH, vit, objective.added(vit))
    images_BCHW = torch.randn(6, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    visible_NMP = patchify(images_BCHW, 4).reshape(3, 72, 48)
    seen = Seen(visible_NMP, torch.arange(36).repeat(3, 2, 1))
    expected = objective.loss(objective.encode(vit, bound.added, seen)).loss
    assert bound(images_BCHW).loss.item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(InputError, match="5 crops are no multiple of 2"):
        bound(images_BCHW[:5])


def test_frozen_patches_get_no_gradient_and_are_not_trained() -> None:
    for frozen in (False, True):
        vit = ARCH.build()
        SimCLR(SimCLR.Config(frozen_patches=frozen)).added(vit)
        assert {p.requires_grad for p in vit.patch_embed.parameters()} == {not frozen}
        assert vit.blocks[0].attn.qkv.weight.requires_grad


def test_flop_are_those_of_two_whole_images() -> None:
    arch = Arch(name="test", img_size=32, patch_size=4, width=64, depth=2, num_heads=2)
    found = SimCLR(SimCLR.Config(width=16, hidden_width=32)).flop_per_image(arch)
    tokens, width = 65, 64
    of_block = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    forward = 2 * (2 * of_block + 2 * 64 * 48 * width + 2 * (width * 32 + 32 * 16))
    # Backward is twice forward, but for the pixels, which get no gradient.
    assert found == pytest.approx(3 * forward - 2 * 2 * 64 * 48 * width, rel=1e-3)


def test_it_wants_two_crops_with_the_papers_changes() -> None:
    wants = SimCLR(SimCLR.Config(strength=0.5)).wants(ARCH)
    assert str(wants) == "2 crops of 24 px"
    first, second = wants.crops
    assert first == second
    assert (first.scale, first.flip) == ((0.08, 1.0), True)
    changes = first.photometric
    assert (changes.jitter, changes.grey, changes.blur, changes.solarise) == (0.8, 0.2, 0.5, 0)
    assert (changes.brightness, changes.contrast, changes.saturation) == (0.4, 0.4, 0.4)
    assert changes.hue == pytest.approx(0.1)


@pytest.mark.parametrize(("size", "arch"), [("s", "small"), ("b", "base")])
def test_imagenet_recipes_have_the_values_of_their_sources(size: str, arch: str) -> None:
    recipe = load_recipe(f"imagenet_simclr_vit_{size}16", PretrainRecipe)
    assert recipe.arch == f"vit_{arch}_patch16_224"
    assert recipe.objective == SimCLR.Config(
        temperature=0.1, crop_scale=(0.08, 1.0), strength=1, grey=0.2, blur=0.5, width=128,
        hidden_width=0, flip=True, frozen_patches=True,
    )  # fmt: skip
    assert (recipe.batch_size, recipe.epochs, recipe.micro_batch) == (4096, 300, 0)
    optim = recipe.optim
    assert (optim.weight_decay, optim.betas, optim.warmup_epochs) == (0.1, (0.9, 0.999), 40)
    assert optim.base_lr * 4096 / 256 == pytest.approx(2.4e-3)


def plan(**changes: int) -> TrainingPlan:
    values = {"epochs": 2, "batch_size": 8, "steps_per_epoch": 3, "save_every_steps": 5, **changes}
    return TrainingPlan(optim=OptimConfig(base_lr=1e-3), **values)


def test_a_collapse_is_warned_of_at_chance() -> None:
    watch = SimCLR().watch(plan())
    at_chance = {"loss": math.log(15), "positive_cosine": 0.999, "negative_cosine": 0.999}
    assert [bool(watch(step, at_chance)) for step in range(1, 5)] == [False, False, True, False]
    assert SimCLR().comparisons(plan()) == "each crop among 15"


@pytest.mark.parametrize("values", [{"temperature": 0}, {"strength": 3}, {"blur": 2}], ids=str)
def test_impossible_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="needed"):
        SimCLR.Config(**values)


def test_a_range_of_crops_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(InputError, match="the smaller number first"):
        SimCLR(SimCLR.Config(crop_scale=(0.9, 0.1))).wants(ARCH)
