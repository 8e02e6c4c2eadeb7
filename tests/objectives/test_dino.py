"""DINO against lightly's loss and head, loops in the paper's words, timm's forward and closed forms."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor

from micl_bench.backbone import Arch, init_mae_, named_arch
from micl_bench.data.visible import Seen
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.warm_start import begin_own_with, begin_with, load_start
from micl_bench.objectives import Bound
from micl_bench.objectives._dino import Head, dino_errors, dino_targets
from micl_bench.objectives.dino import DINO, StudentAndTeacher
from micl_bench.patches import patchify
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError

ARCH = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
SMALL = DINO.Config(
    local_crops=3, local_size=12, outputs=20, hidden_width=16, bottleneck_width=8, drop_path=0.0
)


def outputs(number: int, crops: int, seed: int = 0, width: int = 11) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, crops, width, generator=generator, dtype=torch.float64)


def ours(student_NCO: Tensor, teacher_NGO: Tensor, centre_1O: Tensor, temperature: float) -> Tensor:
    target_NGO = dino_targets(teacher_NGO, centre_1O, temperature=torch.tensor(temperature))
    return dino_errors(student_NCO, target_NGO, temperature=0.1)


@pytest.mark.parametrize("crops", [2, 3, 10])
@pytest.mark.parametrize("temperature", [0.04, 0.07])
def test_the_error_is_the_loops_and_lightlys(crops: int, temperature: float) -> None:
    student_NCO, teacher_NGO = outputs(4, crops), outputs(4, 2, seed=1)
    centre_1O = outputs(1, 1, seed=2)[0]
    found_N = ours(student_NCO, teacher_NGO, centre_1O, temperature)
    for number in range(4):
        terms = []
        for g in range(2):
            for c in range(crops):
                if c == g:
                    continue
                sharp = [float(x) for x in (teacher_NGO[number, g] - centre_1O[0]) / temperature]
                soft = [float(x) / 0.1 for x in student_NCO[number, c]]
                weights = [math.exp(x - max(sharp)) for x in sharp]
                log_sum = math.log(sum(math.exp(x) for x in soft))
                terms.append(
                    -sum(
                        w / sum(weights) * (x - log_sum) for w, x in zip(weights, soft, strict=True)
                    )
                )
        assert found_N[number].item() == pytest.approx(sum(terms) / len(terms), rel=1e-6)
    theirs = DINOLoss(output_dim=11, teacher_temp=temperature).double()
    theirs.center = centre_1O.unsqueeze(0).clone()
    loss = theirs(list(teacher_NGO.unbind(1)), list(student_NCO.unbind(1)))
    assert found_N.mean().item() == pytest.approx(loss.item(), rel=1e-6)


def test_equal_outputs_are_at_the_entropy_of_a_uniform_distribution() -> None:
    flat = torch.ones(3, 4, 7)
    error_N = ours(flat, flat[:, :2], torch.zeros(1, 7), 0.04)
    assert error_N.tolist() == pytest.approx([math.log(7)] * 3)


def test_the_error_is_fp32_under_autocast() -> None:
    student_NCO, teacher_NGO = outputs(4, 3).float(), outputs(4, 2, seed=1).float()
    exact = ours(student_NCO, teacher_NGO, torch.zeros(1, 11), 0.04)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ours(student_NCO, teacher_NGO, torch.zeros(1, 11), 0.04)
    assert torch.equal(inside, exact)


@pytest.mark.parametrize("learnt", [False, True])
def test_the_head_is_lightlys(learnt: bool) -> None:
    theirs = DINOProjectionHead(32, 16, 8, 20, norm_last_layer=not learnt).double()
    head = Head(32, hidden=16, bottleneck=8, outputs=20, learnt_lengths=learnt).double()
    assert (head.last_layer.weight_g == 1).all()
    assert head.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not head.mlp[0].bias.any()
    lightlys = dict(theirs.named_parameters())
    linears = sorted({name.rsplit(".", 1)[0] for name in lightlys if name.startswith("layers")})
    state = {
        f"mlp.{place}.{end}": lightlys[f"{linear}.{end}"]
        for place, linear in zip((0, 2, 4), linears, strict=True)
        for end in ("weight", "bias")
    }
    if learnt:
        theirs.last_layer.weight_g.data.uniform_(0.5, 2)
    state |= {
        f"last_layer.{end}": lightlys[f"last_layer.{end}"] for end in ("weight_g", "weight_v")
    }
    head.load_state_dict(state)
    features = outputs(5, 1, width=32)[:, 0]
    torch.testing.assert_close(head.last_layer(head(features)), theirs(features))
    assert head.last_layer.weight_g.requires_grad is learnt


def made() -> tuple[DINO, torch.nn.Module, StudentAndTeacher]:
    objective, vit = DINO(SMALL), ARCH.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    added = objective.added(vit)
    return objective, vit.double(), added.double()


def crops_of(number: int) -> tuple[Tensor, Tensor, Seen]:
    """Global crops (2 N, 3, 24, 24), local ones (N, 3, 3, 12, 12), and the same as patches."""
    generator = torch.Generator().manual_seed(1)
    options = {"generator": generator, "dtype": torch.float64}
    large = torch.randn(2 * number, 3, 24, 24, **options)
    small = torch.randn(number, 3, 3, 12, 12, **options)
    return (
        large,
        small,
        Seen(
            patchify(large, 4).reshape(number, 72, 48),
            torch.arange(36).repeat(number, 2, 1),
            {"paths_NCR": torch.ones(number, 5, 0)},
            Seen(
                patchify(small.flatten(0, 1), 4).reshape(number, 27, 48),
                torch.arange(9).repeat(number, 3, 1),
            ),
        ),
    )


def test_the_loss_is_lightlys_of_timms_class_tokens_and_so_is_the_centre() -> None:
    objective, vit, added = made()
    # A teacher that differs from the student, and a centre on its way.
    with torch.no_grad():
        for parameter in (*added.teacher.parameters(), *added.teacher_head.parameters()):
            if parameter.requires_grad is False and parameter.ndim > 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
        added.teacher_head.last_layer.weight_g.fill_(1)
        added.centre_1O.normal_(std=0.1)
    large, small, seen = crops_of(4)
    teacher = [
        added.teacher_head.last_layer(
            added.teacher_head(added.teacher.forward_features(large[g::2])[:, 0])
        )
        for g in range(2)
    ]
    places_LD = vit.pos_embed[0, 1:]
    # As DINO's interpolate_pos_encoding: 6 patches a side to 3, by a scale of 3.1 / 6.
    map_1Dhw = places_LD.T.view(1, 32, 6, 6).float()
    few_LD = F.interpolate(map_1Dhw, scale_factor=(3.1 / 6, 3.1 / 6), mode="bicubic")
    few_LD = few_LD.flatten(2)[0].T.double()
    features = [vit.forward_features(large[g::2])[:, 0] for g in range(2)]
    for s in range(3):
        tokens = vit.patch_embed.proj(small[:, s]).flatten(2).transpose(1, 2) + few_LD
        first = (vit.cls_token + vit.pos_embed[:, :1]).expand(4, -1, -1)
        features.append(vit.norm(vit.blocks(torch.cat([first, tokens], 1)))[:, 0])
    student = [added.head.last_layer(added.head(one)) for one in features]
    theirs = DINOLoss(output_dim=20, teacher_temp=0.04).double()
    theirs.center = added.centre_1O.unsqueeze(0).clone()
    expected = theirs(teacher, student)
    rows = objective.encode(vit, added, seen)
    assert objective.loss(rows).loss.item() == pytest.approx(expected.item(), rel=1e-6)
    objective.after_step(vit, added, rows.detach(), 0.5)
    torch.testing.assert_close(added.centre_1O, theirs.center[0], rtol=1e-9, atol=1e-12)


def test_bound_to_its_networks_it_takes_global_and_local_crops() -> None:
    objective, vit, added = made()
    large, small, seen = crops_of(3)
    expected = objective.loss(objective.encode(vit, added, seen)).loss
    bound = Bound(objective, ARCH, vit, added)
    assert bound(large, local_NSChw=small).loss.item() == pytest.approx(expected.item(), rel=1e-12)
    with pytest.raises(InputError, match=r"local_NSChw, \(3, 3, 3, 12, 12\)"):
        bound(large)


def test_at_first_the_last_layer_alone_does_not_learn_then_all_do() -> None:
    objective, vit, added = made()
    _, _, seen = crops_of(3)
    values = []
    for progress, learns in ((0.005, False), (0.01, True)):
        rows = objective.encode(vit, added, seen)
        values.append(objective.loss(rows).loss.item())
        objective.loss(rows).loss.backward()
        assert not added.head.last_layer.weight_v.grad.any()
        assert added.head.mlp[0].weight.grad.any()
        with torch.no_grad():
            objective.after_step(vit, added, rows.detach() * 0, progress)
        assert bool(added.learns) is learns
        added.centre_1O.zero_()
        added.zero_grad()
    objective.loss(objective.encode(vit, added, seen)).loss.backward()
    assert added.head.last_layer.weight_v.grad.any()
    assert added.head.last_layer.weight_g.grad is None


def test_the_teachers_temperature_rises_evenly_then_stays() -> None:
    config = DINO.Config(teacher_temperature=0.07, temperature_share=0.1)
    found = [config.temperature(progress) for progress in (0, 0.05, 0.1, 1)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert DINO.Config().temperature(0) == DINO.Config().temperature(1) == 0.04


def test_it_wants_the_published_crops() -> None:
    arch = Arch(name="test", img_size=224, patch_size=16, width=32, depth=2, num_heads=2)
    objective = DINO()
    wants = objective.wants(arch)
    assert str(wants) == "2 crops of 224 px, 8 crops of 96 px"
    assert objective.tokens_per_image(arch) == (2 * 197 + 8 * 37, 2 * 197)
    assert wants.local
    assert [group.first for group in wants.groups] == [0, 2]
    changes = [crop.photometric for crop in (*wants.crops, *wants.local.crops)]
    assert [one.blur for one in changes] == [1.0, 0.1, *[0.5] * 8]
    assert [one.solarise for one in changes] == [0, 0.2, *[0] * 8]
    assert {(one.jitter, one.brightness, one.contrast) for one in changes} == {(0.8, 0.4, 0.4)}
    assert {(one.saturation, one.hue, one.grey) for one in changes} == {(0.2, 0.1, 0.2)}
    assert [crop.scale for crop in wants.crops] == [(0.4, 1.0)] * 2
    assert {crop.scale for crop in wants.local.crops} == {(0.05, 0.4)}


def test_flop_are_those_of_all_crops_and_of_the_teacher() -> None:
    arch = Arch(name="test", img_size=32, patch_size=4, width=64, depth=2, num_heads=2)
    config = DINO.Config(
        local_crops=3, local_size=16, outputs=40, hidden_width=16, bottleneck_width=8
    )
    width, embed = 64, 2 * 48 * 64
    head = 2 * (64 * 16 + 16 * 16 + 16 * 8 + 8 * 40)

    def blocks(tokens: int) -> float:
        return 2 * (2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width)

    large, small = blocks(65) + head, blocks(17) + head
    patches = (2 * 64 + 3 * 16) * embed
    teacher = 2 * (large + 64 * embed)
    cross = 2 * 2 * 5 * 40
    # Backward is twice forward, but for the pixels and the targets, which get no gradient.
    expected = 3 * (2 * large + 3 * small) + 2 * patches + teacher + 2 * cross
    assert DINO(config).flop_per_image(arch) == pytest.approx(expected, rel=1e-3)


def test_a_file_of_the_authors_starts_student_teacher_heads_and_centre(tmp_path: Path) -> None:
    arch = named_arch("vit_demo_patch4_32")
    objective, vit = DINO(SMALL), arch.build()
    theirs = objective.added(vit)
    for parameter in theirs.parameters():
        parameter.data.normal_()
    heads = {"student": theirs.head, "teacher": theirs.teacher_head}
    backbones = {"student": vit, "teacher": theirs.teacher}
    content = {
        branch: {
            **{f"{start}backbone.{n}": v for n, v in backbones[branch].state_dict().items()},
            **{f"{start}head.{n}": v for n, v in heads[branch].state_dict().items()},
        }
        for branch, start in (("student", "module."), ("teacher", ""))
    }
    centre_1O = torch.randn(1, 20)
    torch.save({**content, "dino_loss": {"center": centre_1O}, "epoch": 3}, tmp_path / "c.pth")
    start = load_start(str(tmp_path / "c.pth"), arch, branch="student", beside=objective.in_files)
    mine = arch.build()
    begin_with(mine, start)
    added = objective.added(mine)
    said = begin_own_with(objective, mine, added, start)
    assert "own modules taken" in said
    assert "learns, temperature of DINO start anew" in said
    found = added.state_dict()
    for name, value in theirs.state_dict().items():
        if name.startswith(("head.", "teacher.", "teacher_head.")):
            assert torch.equal(found[name], value), name
    assert torch.equal(found["centre_1O"], centre_1O)
    assert torch.equal(mine.blocks[0].attn.qkv.weight, vit.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("size", [10, 28])
def test_local_crops_that_patches_do_not_tile_are_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"local crops are of {size} pixels a side; needed"):
        DINO(DINO.Config(local_size=size)).wants(ARCH)


@pytest.mark.parametrize(
    ("size", "arch", "batch"), [("s", "small", 512), ("b", "base", 1024)], ids=["s", "b"]
)
def test_imagenet_recipes_have_the_values_of_their_sources(
    size: str, arch: str, batch: int
) -> None:
    recipe = load_recipe(f"imagenet_dino_vit_{size}16", PretrainRecipe)
    assert recipe.arch == f"vit_{arch}_patch16_224"
    assert recipe.objective == DINO.Config()
    assert (recipe.batch_size, recipe.epochs) == (batch, 100)
    optim = recipe.optim
    assert (optim.base_lr, optim.warmup_epochs, optim.clip_norm) == (5e-4, 10, 3.0)
    assert (optim.weight_decay, optim.betas) == (0.04, (0.9, 0.999))
    assert getattr(optim, "final_weight_decay", None) == 0.4
