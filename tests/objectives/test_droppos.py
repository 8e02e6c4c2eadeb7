"""DropPos: timm's own modules and the formulas in plain loops, and closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, init_mae_, named_arch
from micl_bench.data.visible import Seen
from micl_bench.objectives._bound import Bound
from micl_bench.objectives.droppos import DropPos, class_weights, smoothed_places
from micl_bench.patches import gather_patches
from micl_bench.runs.optim import OptimConfig
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.errors import InputError

N, L, SIDE = 3, 36, 6
ARCH = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
CONFIG = DropPos.Config(
    mask_ratio=0.5, position_drop_ratio=0.7, decoder_width=24, decoder_heads=3, sigma=1.5
)
# Of 36 patches 18 are visible, and floor(18 x 0.3) of these keep their position.
VISIBLE, PLACED = 18, 5


@pytest.fixture
def vit() -> VisionTransformer:
    model = ARCH.build()
    init_mae_(model, generator=torch.Generator().manual_seed(0))
    perturb(model, 1)
    return model.double().eval()


@pytest.fixture
def images_NCHW() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(N, 3, 24, 24, generator=generator, dtype=torch.float64)


def perturb(model: nn.Module, seed: int) -> None:
    """Norms and biases away from the identity, so that leaving one out would show."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)


def modules(objective: DropPos, vit: VisionTransformer) -> nn.Module:
    torch.manual_seed(3)
    added = objective.added(vit).double()
    perturb(added, 4)
    return added


def seen_of(images_NCHW: Tensor) -> Seen:
    wants = DropPos(CONFIG).wants(ARCH)
    keep_NVK, drawn = wants.drawn(7, 0, np.arange(len(images_NCHW)))
    return Seen(gather_patches(images_NCHW, keep_NVK, 4), keep_NVK, drawn)


def weights_by_hand(vit: VisionTransformer, image_CHW: Tensor, temperature: float) -> list[float]:
    """softmax(cos([CLS], patch) / temperature) over all patches, by timm's own forward pass."""
    tokens_TD = vit.forward_features(image_CHW[None])[0]
    cosines = [
        float(patch @ tokens_TD[0] / (patch.norm() * tokens_TD[0].norm()))
        for patch in tokens_TD[1:]
    ]
    total = sum(math.exp(cosine / temperature) for cosine in cosines)
    return [math.exp(cosine / temperature) / total for cosine in cosines]


def labels_by_hand(place: int, sigma: float) -> list[float]:
    """A Gaussian over the grid around a place; rows and columns by division."""
    weights = [
        math.exp(-((place // SIDE - j // SIDE) ** 2 + (place % SIDE - j % SIDE) ** 2) / sigma**2)
        for j in range(SIDE * SIDE)
    ]
    return [weight / sum(weights) for weight in weights]


def loss_by_hand(
    vit: VisionTransformer, added: nn.Module, images_NCHW: Tensor, seen: Seen, sigma: float
) -> tuple[Tensor, float]:
    """The loss, and the weighted share of places that are found [%], image by image, patch by patch."""
    assert vit.pos_embed is not None
    lost, weighed, found = torch.zeros((), dtype=torch.float64), 0.0, 0.0
    for image_CHW, order in zip(images_NCHW, seen.keep_NVK[:, 0].tolist(), strict=True):
        visible = order[:VISIBLE]
        with torch.no_grad():
            weight_L = weights_by_hand(vit, image_CHW, 0.1)
        of_visible = sum(weight_L[place] for place in visible)
        embedded_LD = vit.patch_embed(image_CHW[None])[0]
        tokens = [vit.cls_token[0, 0] + vit.pos_embed[0, 0]]
        for number, place in enumerate(visible):
            keeps = number < PLACED
            position_D = vit.pos_embed[0, 1 + place] if keeps else added.dropped_position[0, 0]
            tokens.append(embedded_LD[place] + position_D)
        encoded = vit.norm(vit.blocks(torch.stack(tokens)[None]))
        decoded = added.embed(encoded)
        for block in added.blocks:
            decoded = block(decoded)
        logits_TL = added.classifier(added.norm(decoded))[0]
        for number, place in enumerate(visible):
            if number < PLACED:
                continue
            log_L = F.log_softmax(logits_TL[1 + number], dim=0)
            weight = weight_L[place] / of_visible
            for j, label in enumerate(labels_by_hand(place, sigma)):
                lost = lost - weight * label * log_L[j]
            weighed += weight
            found += weight * (int(log_L.argmax()) == place)
    return lost / weighed, 100 * found / weighed


@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_loss_and_gradients_equal_plain_loops(
    vit: VisionTransformer, images_NCHW: Tensor, progress: float
) -> None:
    objective, seen = DropPos(CONFIG), seen_of(images_NCHW)
    added = modules(objective, vit)
    parameters = [p for p in (*vit.parameters(), *added.parameters()) if p.requires_grad]
    rows = objective.encode(vit, added, seen)
    objective.after_step(vit, added, rows.detach(), progress)
    output = objective.loss(objective.encode(vit, added, seen))
    ours = torch.autograd.grad(output.loss, parameters)
    loss, found = loss_by_hand(vit, added, images_NCHW, seen, 1.5 * (1 - progress))
    theirs = torch.autograd.grad(loss, parameters)
    assert output.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert output.numbers["place_top1"].item() == pytest.approx(found, rel=1e-6)
    assert objective.health(rows)["held_out_place_top1"] == pytest.approx(found, rel=1e-6)
    for our, their in zip(ours, theirs, strict=True):
        # Progress is kept in fp32.
        torch.testing.assert_close(our, their, rtol=1e-6, atol=1e-9)


def test_the_loss_is_the_mean_over_patches_not_over_images(
    vit: VisionTransformer, images_NCHW: Tensor
) -> None:
    # What tells one from the other: images whose weights lie on different patches.
    objective, seen = DropPos(CONFIG), seen_of(images_NCHW)
    rows = objective.encode(vit, modules(objective, vit), seen)
    of_images = torch.stack([objective.loss(row[None]).loss for row in rows])
    loss = objective.loss(rows).loss.item()
    assert loss == pytest.approx((of_images * rows[:, 1]).sum().item() / rows[:, 1].sum().item())
    assert abs(loss - of_images.mean().item()) > 1e-6


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_labels_are_a_gaussian_of_places(sigma: float) -> None:
    found_LL = smoothed_places(L, sigma=torch.tensor(sigma, dtype=torch.float64))
    for place in range(L):
        assert found_LL[place].tolist() == pytest.approx(labels_by_hand(place, sigma), rel=1e-12)
    assert found_LL[0, 1] / found_LL[0, 0] == pytest.approx(math.exp(-1 / sigma**2))
    assert found_LL[0, SIDE + 1] / found_LL[0, 0] == pytest.approx(math.exp(-2 / sigma**2))


def test_without_sigma_the_label_is_the_place_alone() -> None:
    assert torch.equal(smoothed_places(9, sigma=torch.tensor(0.0)), torch.eye(9))
    wide_LL = smoothed_places(9, sigma=torch.tensor(1e4))
    torch.testing.assert_close(wide_LL, torch.full((9, 9), 1 / 9))


def test_weights_follow_the_class_token() -> None:
    tokens_NTD = torch.tensor([[[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    found = class_weights(tokens_NTD, temperature=0.5)[0].tolist()
    total = math.exp(2) + 1 + math.exp(-2)
    assert found == pytest.approx([math.exp(2) / total, 1 / total, math.exp(-2) / total])


def test_a_decoder_that_knows_nothing_is_at_chance(
    vit: VisionTransformer, images_NCHW: Tensor
) -> None:
    objective = DropPos(CONFIG)
    added = modules(objective, vit)
    for parameter in added.classifier.parameters():
        torch.nn.init.zeros_(parameter)
    output = objective.loss(objective.encode(vit, added, seen_of(images_NCHW)))
    assert output.loss.item() == pytest.approx(math.log(L), rel=1e-12)
    assert output.numbers["loss_of_a_guess"].item() == pytest.approx(math.log(L), rel=1e-12)


def test_places_that_are_only_guessed_are_warned_of() -> None:
    plan = TrainingPlan(
        optim=OptimConfig(base_lr=1e-3),
        epochs=9,
        batch_size=4,
        steps_per_epoch=2,
        save_every_steps=1,
    )
    watch, guess = DropPos().watch(plan), math.log(L)
    numbers = {"place_top1": 3.0, "loss_of_a_guess": guess}
    assert watch(1, {"loss": 0.5 * guess, **numbers}) == ""
    assert watch(2, {"loss": 1.1 * guess, **numbers}) == ""
    assert "that of giving every place the same probability" in watch(3, {"loss": guess, **numbers})


def test_visible_patches_may_be_chosen(vit: VisionTransformer, images_NCHW: Tensor) -> None:
    objective, seen = DropPos(CONFIG), seen_of(images_NCHW)
    bound = Bound(objective, ARCH, vit, modules(objective, vit))
    found = bound(images_NCHW, seen.keep_NVK[:, :, :VISIBLE])
    expected = objective.loss(objective.encode(vit, bound.added, seen))
    # The hidden patches stand in another order, of which only weights depend.
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-9)


def test_patches_without_position_cannot_be_told_apart_by_their_order(
    vit: VisionTransformer, images_NCHW: Tensor
) -> None:
    objective, seen = DropPos(CONFIG), seen_of(images_NCHW)
    added = modules(objective, vit)
    order = torch.cat([torch.arange(PLACED), torch.arange(PLACED, VISIBLE).flip(0)])
    order = torch.cat([order, torch.arange(VISIBLE, L)])
    turned = Seen(seen.visible_NMP[:, order], seen.keep_NVK[:, :, order])
    rows, again = (objective.encode(vit, added, one) for one in (seen, turned))
    torch.testing.assert_close(rows, again, rtol=1e-9, atol=1e-12)


def test_rows_are_fp32_under_autocast(vit: VisionTransformer, images_NCHW: Tensor) -> None:
    objective, seen = DropPos(CONFIG), seen_of(images_NCHW.float())
    added = modules(objective, vit).float()
    exact = objective.encode(vit.float(), added, seen)
    with torch.autocast("cpu", torch.bfloat16):
        rows = objective.encode(vit, added, seen)
    assert rows.dtype == torch.float32
    assert not torch.equal(rows, exact)
    torch.testing.assert_close(rows[:, :2], exact[:, :2], rtol=0.05, atol=0.01)


def test_defaults_are_those_of_the_authors_script() -> None:
    objective, arch = DropPos(), named_arch("vit_small_patch16_224")
    config = objective.config
    assert (config.mask_ratio, config.position_drop_ratio, config.sigma) == (0.75, 0.75, 1.0)
    assert (config.decoder_depth, config.decoder_width, config.decoder_heads) == (2, 512, 16)
    assert config.weight_temperature == 0.1
    assert objective.parts(arch.num_patches) == (49, 12)
    assert objective.sees(arch).startswith("49 of 196 patches visible, 37 of them without position")
    keep_NVK, drawn = objective.wants(arch).drawn(0, 0, np.arange(2))
    shown = objective.shown(keep_NVK, drawn)
    assert {name: part.shape for name, part in shown.items()} == {
        "with position": (2, 12),
        "without": (2, 37),
    }
    added = objective.added(arch.build())
    assert sum(p.numel() for p in added.blocks[0].parameters()) == 12 * 512**2 + 13 * 512
    assert not added.progress


def test_no_placed_patch_at_all_is_allowed() -> None:
    objective = DropPos(DropPos.Config(position_drop_ratio=1.0))
    assert objective.parts(64) == (16, 0)
    keep_NVK = torch.arange(64).expand(2, 1, 64)
    assert objective.shown(keep_NVK, {}).keys() == {"without"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mask_ratio": 1.0}, "mask_ratio is 1"),
        ({"mask_ratio": 0.99}, "leaves no patch"),
        ({"position_drop_ratio": 0.0}, "position_drop_ratio is 0"),
        ({"position_drop_ratio": 1e-9}, "takes the position of none of 16 visible patches"),
        ({"decoder_heads": 7}, "needed: a multiple of decoder_heads, 7"),
        ({"sigma": -1.0}, "sigma is -1"),
    ],
    ids=str,
)
def test_impossible_values_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DropPos(DropPos.Config(**values)).wants(named_arch("vit_demo_patch4_32"))  # type: ignore[arg-type]
