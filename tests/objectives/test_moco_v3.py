"""MoCo v3 against plain loops over images, torch's own modules called by hand, and closed forms."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checkpoints.direct import moco_positions
from checkpoints.layouts import SMALL as SMALL_VIT
from checkpoints.layouts import random_state, small_vit
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, init_mae_, named_arch
from micl_bench.data.visible import Seen
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.warm_start import begin_own_with, begin_with, load_start
from micl_bench.objectives.moco_v3 import Heads, MoCoV3, crossed_cosines, moco_v3_loss
from micl_bench.patches import patchify
from micl_bench.runs.optim import OptimConfig
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError

ARCH = Arch(name="test", img_size=24, patch_size=4, width=32, depth=2, num_heads=2)
SMALL: dict[str, Any] = {"hidden_width": 24, "width": 8}


def rows(number: int, width: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Queries and keys of two crops, rows_NVD each."""
    generator = torch.Generator().manual_seed(seed + number)
    drawn = torch.randn(2, number, 2, width, generator=generator, dtype=torch.float64)
    return drawn[0], drawn[1]


def cosine(a_D: Tensor, b_D: Tensor) -> float:
    return float(a_D @ b_D / (a_D.norm() * b_D.norm()))


def in_plain_loops(query_NVD: Tensor, key_NVD: Tensor, t: float) -> float:
    """Algorithm 1 of the paper, an image at a time: ctr(q1, k2) + ctr(q2, k1)."""
    number, loss = len(query_NVD), 0.0
    for mine, other in ((0, 1), (1, 0)):
        for i in range(number):
            logits = [cosine(query_NVD[i, mine], key_NVD[j, other]) / t for j in range(number)]
            total = sum(math.exp(logit) for logit in logits)
            loss += 2 * t * -math.log(math.exp(logits[i]) / total) / number
    return loss


@pytest.mark.parametrize("number", [2, 3, 8])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_loss_and_cosines_equal_plain_loops(number: int, temperature: float) -> None:
    query_NVD, key_NVD = rows(number)
    loss = moco_v3_loss(query_NVD, key_NVD, first=0, temperature=temperature)
    expected = in_plain_loops(query_NVD, key_NVD, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    positive, negative = crossed_cosines(query_NVD, key_NVD, first=0)
    of_pairs: dict[bool, list[float]] = {True: [], False: []}
    for i in range(number):
        for j in range(number):
            for mine in (0, 1):
                of_pairs[i == j].append(cosine(query_NVD[i, mine], key_NVD[j, 1 - mine]))
    assert positive.item() == pytest.approx(np.mean(of_pairs[True]), rel=1e-12)
    assert negative.item() == pytest.approx(np.mean(of_pairs[False]), rel=1e-12)


def test_equal_rows_are_at_chance_and_the_mean_of_parts_is_the_whole() -> None:
    equal = torch.ones(5, 2, 3)
    loss = moco_v3_loss(equal, equal, first=0, temperature=0.2)
    assert loss.item() == pytest.approx(0.8 * math.log(5), rel=1e-6)
    query_NVD, key_NVD = rows(6)
    for function in (
        lambda own, first: moco_v3_loss(own, key_NVD, first=first, temperature=0.2),
        lambda own, first: torch.stack(crossed_cosines(own, key_NVD, first=first)),
    ):
        parts = [function(query_NVD[first : first + 2], first) for first in (0, 2, 4)]
        whole = function(query_NVD, 0)
        torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-12, atol=1e-14)


def test_the_loss_is_fp32_under_autocast() -> None:
    query_NVD, key_NVD = (one.float() for one in rows(4))
    exact = moco_v3_loss(query_NVD, key_NVD, first=0, temperature=0.2)
    with torch.autocast("cpu", torch.bfloat16):
        inside = moco_v3_loss(query_NVD, key_NVD, first=0, temperature=0.2)
    assert torch.equal(inside, exact)


def built(**values: Any) -> tuple[MoCoV3, VisionTransformer, Heads]:
    """An objective with its modules in fp64, its momentum encoder somewhere else than its encoder."""
    objective, vit = MoCoV3(MoCoV3.Config(**SMALL, **values)), ARCH.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    added = objective.added(vit)
    vit.double(), added.double()
    generator = torch.Generator().manual_seed(2)
    for parameter in added.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return objective, vit, added


def two_crops(number: int = 4) -> tuple[Tensor, Seen]:
    """Normalised crops_NVCHW, and what an objective sees of them."""
    generator = torch.Generator().manual_seed(3)
    crops = torch.randn(number, 2, 3, 24, 24, generator=generator, dtype=torch.float64)
    patches_NMP = patchify(crops.flatten(0, 1), 4).reshape(number, 72, 48)
    return crops, Seen(patches_NMP, torch.arange(36).repeat(number, 2, 1))


def by_torch(head: nn.Sequential, rows_ND: Tensor) -> Tensor:
    """A head in torch's functions: norms of each crop's own rows, the last without factor and shift."""
    linears = [layer for layer in head if isinstance(layer, nn.Linear)]
    norms = [layer for layer in head if hasattr(layer, "variance_D")]
    for linear, norm in zip(linears[:-1], norms[:-1], strict=True):
        hidden = F.linear(rows_ND, linear.weight)
        rows_ND = F.batch_norm(hidden, None, None, norm.weight, norm.bias, training=True).relu()
    return F.batch_norm(F.linear(rows_ND, linears[-1].weight), None, None, training=True)


def test_rows_are_queries_and_keys_through_torchs_layers() -> None:
    objective, vit, added = built()
    crops, seen = two_crops()
    found = objective.encode(vit, added, seen)
    assert found.shape == (4, 2, 2, 8)
    for view in (0, 1):
        class_ND = vit.forward_features(crops[:, view])[:, 0]
        query_ND = by_torch(added.predictor, by_torch(added.projector, class_ND))
        torch.testing.assert_close(found[:, view, 0], query_ND, rtol=1e-9, atol=1e-9)
        class_ND = added.momentum_encoder.forward_features(crops[:, view])[:, 0]
        key_ND = by_torch(added.momentum_projector, class_ND)
        torch.testing.assert_close(found[:, view, 1], key_ND, rtol=1e-9, atol=1e-9)
    found = found.detach()
    expected = in_plain_loops(found[:, :, 0], found[:, :, 1], 0.2)
    assert objective.loss(found).loss.item() == pytest.approx(expected, rel=1e-12)


def test_heads_have_the_published_layers() -> None:
    with torch.device("meta"):
        added = MoCoV3().added(named_arch("vit_small_patch16_224").build())
    shapes = {
        name: tuple(one.shape)
        for name, one in added.named_parameters()
        if name.startswith("pro") or name.startswith("pred")
    }
    assert shapes == {
        "projector.0.weight": (4096, 384),
        "projector.1.weight": (4096,),
        "projector.1.bias": (4096,),
        "projector.3.weight": (4096, 4096),
        "projector.4.weight": (4096,),
        "projector.4.bias": (4096,),
        "projector.6.weight": (256, 4096),
        "predictor.0.weight": (4096, 256),
        "predictor.1.weight": (4096,),
        "predictor.1.bias": (4096,),
        "predictor.3.weight": (256, 4096),
    }
    relus = [isinstance(layer, nn.ReLU) for layer in added.projector]
    assert relus == [False, False, True, False, False, True, False, False]


def test_the_encoder_learns_and_its_average_and_the_patch_projection_do_not() -> None:
    objective, vit, added = built()
    objective.loss(objective.encode(vit, added, two_crops()[1])).loss.backward()
    without = {name for name, p in vit.named_parameters() if p.grad is None}
    assert without == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    for name, parameter in added.named_parameters():
        assert (parameter.grad is None) == name.startswith("momentum"), name
    _, vit, _ = built(frozen_patches=False)
    assert all(parameter.requires_grad for parameter in vit.patch_embed.parameters())


def test_the_momentum_encoder_follows_and_keeps_its_own_running_statistics() -> None:
    objective, vit, added = built(momentum=0.8)
    objective.encode(vit, added, two_crops()[1])
    pairs = [(added.momentum_encoder, vit), (added.momentum_projector, added.projector)]
    # (1 + 0.8) / 2 where the cosine is half way.
    expected = [
        [0.9 * old + 0.1 * new for old, new in zip(*(m.parameters() for m in pair), strict=True)]
        for pair in pairs
    ]
    kept = [buffer.clone() for buffer in added.momentum_projector.buffers()]
    ours = list(added.projector.buffers())
    objective.after_step(vit, added, torch.empty(0), 0.5)
    for (twin, _), wanted in zip(pairs, expected, strict=True):
        for parameter, value in zip(twin.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.data, value.data, rtol=1e-12, atol=1e-12)
    for buffer, before, our in zip(added.momentum_projector.buffers(), kept, ours, strict=True):
        assert torch.equal(buffer, before)
        assert not torch.equal(buffer, our)


def test_running_statistics_follow_the_first_crop_then_the_second() -> None:
    objective, vit, added = built()
    crops, seen = two_crops()
    objective.encode(vit, added, seen)
    norm = nn.BatchNorm1d(24, dtype=torch.float64)
    for view in (0, 1):
        norm(F.linear(vit.forward_features(crops[:, view])[:, 0], added.projector[0].weight))
    assert norm.running_mean is not None
    torch.testing.assert_close(added.projector[1].mean_D, norm.running_mean, rtol=1e-9, atol=1e-9)
    found = added.projector[1].variance_D
    torch.testing.assert_close(found, norm.running_var, rtol=1e-9, atol=1e-9)


def test_it_wants_byols_two_crops() -> None:
    wants = MoCoV3().wants(ARCH)
    assert str(wants) == "2 crops of 24 px"
    for crop, blur, solarise in zip(wants.crops, (1.0, 0.1), (0.0, 0.2), strict=True):
        assert (crop.scale, crop.flip) == ((0.08, 1.0), True)
        changes = crop.photometric
        assert (changes.jitter, changes.grey) == (0.8, 0.2)
        assert (changes.brightness, changes.contrast) == (0.4, 0.4)
        assert (changes.saturation, changes.hue) == (0.2, 0.1)
        assert (changes.blur, changes.solarise) == (blur, solarise)
    weaker = MoCoV3(MoCoV3.Config(strength=0.5)).wants(ARCH).crops[0].photometric
    assert (weaker.brightness, weaker.saturation, weaker.hue) == (0.2, 0.1, 0.05)


@pytest.mark.parametrize(("size", "arch"), [("s", "small"), ("b", "base")])
def test_imagenet_recipes_have_the_values_of_their_sources(size: str, arch: str) -> None:
    recipe = load_recipe(f"imagenet_moco_v3_vit_{size}16", PretrainRecipe)
    assert recipe.arch == f"vit_{arch}_patch16_224"
    assert recipe.objective == MoCoV3.Config(
        temperature=0.2, momentum=0.99, crop_scale=(0.08, 1.0), flip=True, strength=1, grey=0.2,
        blur=(1.0, 0.1), solarise=(0.0, 0.2), hidden_width=4096, width=256, frozen_patches=True,
    )  # fmt: skip
    assert (recipe.batch_size, recipe.epochs, recipe.micro_batch) == (4096, 300, 0)
    optim = recipe.optim
    assert (optim.weight_decay, optim.betas, optim.warmup_epochs) == (0.1, (0.9, 0.999), 40)
    assert optim.base_lr * 4096 / 256 == pytest.approx(2.4e-3)


def test_flop_are_those_of_two_crops_through_encoder_and_average() -> None:
    arch = Arch(name="test", img_size=32, patch_size=4, width=64, depth=2, num_heads=2)
    found = MoCoV3(MoCoV3.Config(width=16, hidden_width=32)).flop_per_image(arch)
    tokens, width = 65, 64
    of_block = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    patches = 2 * 64 * 48 * width
    projector, predictor = 2 * (width * 32 + 32 * 32 + 32 * 16), 2 * (16 * 32 + 32 * 16)
    learnt = 2 * (2 * of_block + projector + predictor)
    # The frozen patches go forward alone, as all of the average does.
    expected = 3 * learnt + 2 * patches + 2 * (2 * of_block + patches + projector)
    assert found == pytest.approx(expected, rel=1e-3)


def plan(**changes: int) -> TrainingPlan:
    values = {"epochs": 2, "batch_size": 8, "steps_per_epoch": 3, "save_every_steps": 5, **changes}
    return TrainingPlan(optim=OptimConfig(base_lr=1e-3), **values)


def test_a_collapse_is_warned_of_at_chance() -> None:
    watch = MoCoV3().watch(plan())
    at_chance = {"loss": 0.8 * math.log(8), "positive_cosine": 0.5, "negative_cosine": 0.5}
    said = [watch(step, at_chance) for step in range(1, 5)]
    assert [bool(one) for one in said] == [False, False, True, False]
    assert "1.664 of 0.8 log(8) = 1.664" in said[2]
    assert MoCoV3().comparisons(plan()) == "each crop among the other crops of 8 images"


def test_one_image_and_impossible_values_are_refused() -> None:
    with pytest.raises(InputError, match="batch_size is 1"):
        MoCoV3().require(plan(batch_size=1))
    for values in ({"temperature": 0}, {"blur": (2.0, 0.1)}, {"momentum": 1.5}, {"strength": 6}):
        with pytest.raises(InputError, match="needed"):
            MoCoV3.Config(**values)
    with pytest.raises(InputError, match="set arch=vit_demo_patch4_32"):
        MoCoV3().wants(named_arch("vit_demo_patch4_32_nocls"))


def head_of_file(widths: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """A head as the authors' code names it: of its last norm it has statistics alone."""
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out, bias=False), nn.BatchNorm1d(out), nn.ReLU()]
    layers[-2:] = [nn.BatchNorm1d(widths[-1], affine=False)]
    head = nn.Sequential(*layers).train()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.1 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(seed)
            )
        # Which moves the running statistics.
        head(torch.randn(16, widths[0], generator=torch.Generator().manual_seed(seed)))
    return head.state_dict()


def named(start: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{start}.{name}": value for name, value in state.items()}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file in the layout of the authors' code, with heads and predictor."""
    state: dict[str, Tensor] = {}
    for seed, encoder in ((1, "module.base_encoder"), (2, "module.momentum_encoder")):
        vit = random_state(small_vit(), seed) | {"pos_embed": moco_positions(4, 128)}
        state |= named(encoder, vit | named("head", head_of_file((128, 48, 48, 16), seed)))
    state |= named("module.predictor", head_of_file((16, 48, 16), 3))
    path = tmp_path / "vit-b-300ep.pth.tar"
    torch.save({"epoch": 300, "arch": "vit_base", "state_dict": state}, path)
    return path


def test_an_official_file_gives_heads_predictor_and_momentum_encoder(official: Path) -> None:
    bound = MoCoV3().from_checkpoint(official)
    stored = torch.load(official, weights_only=False)["state_dict"]
    names = {"base_encoder.head": "projector", "momentum_encoder.head": "momentum_projector"}
    norms = {"running_mean": "mean_D", "running_var": "variance_D"}
    expected = {}
    for name, tensor in stored.items():
        plain = name.removeprefix("module.")
        for theirs, ours in (names | norms).items():
            plain = plain.replace(theirs, ours)
        if not plain.startswith("base_encoder") and not plain.endswith("num_batches_tracked"):
            expected[plain] = tensor
    found = bound.added.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6, msg=name)
    assert bound.objective.config.hidden_width == 48
    crops = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    # In eval mode heads normalise by the statistics of the file.
    class_ND = bound.vit.forward_features(crops[0::2])[:, 0]
    seen = Seen(patchify(crops, 8).reshape(2, -1, 192), torch.arange(16).repeat(2, 2, 1))
    found_rows = bound.objective.encode(bound.vit, bound.added, seen)
    for start, layers in (("base_encoder.head", 3), ("predictor", 2)):
        for layer in range(layers):
            part = f"module.{start}.{3 * layer + 1}"
            class_ND = F.linear(class_ND, stored[f"module.{start}.{3 * layer}.weight"])
            statistics = stored[f"{part}.running_mean"], stored[f"{part}.running_var"]
            affine = stored.get(f"{part}.weight"), stored.get(f"{part}.bias")
            class_ND = F.batch_norm(class_ND, *statistics, *affine)
            class_ND = class_ND if layer == layers - 1 else class_ND.relu()
    torch.testing.assert_close(found_rows[:, 0, 0], class_ND, rtol=1e-4, atol=1e-4)
    assert bound(crops).loss.isfinite()


def test_at_another_input_size_both_encoders_have_the_same_positions(official: Path) -> None:
    bound = MoCoV3().from_checkpoint(official, img_size=64)
    expected = moco_positions(8, 128)
    for vit in (bound.vit, bound.added.momentum_encoder):
        torch.testing.assert_close(vit.pos_embed.detach(), expected, rtol=1e-5, atol=1e-5)


def test_a_file_without_a_predictor_is_refused_in_one_line(official: Path, tmp_path: Path) -> None:
    content = torch.load(official, weights_only=False)
    state = content["state_dict"]
    content["state_dict"] = {k: v for k, v in state.items() if "predictor" not in k}
    path = tmp_path / "without.pth.tar"
    torch.save(content, path)
    with pytest.raises(InputError, match="does not hold MoCo v3's own modules: predictor"):
        MoCoV3().from_checkpoint(path)


def test_a_warm_start_takes_what_the_file_holds_and_says_so(official: Path) -> None:
    objective = MoCoV3(MoCoV3.Config(hidden_width=48, width=16))
    start = load_start(str(official), SMALL_VIT, beside=objective.in_files)
    vit = SMALL_VIT.build()
    begin_with(vit, start)
    added = objective.added(vit)
    said = begin_own_with(objective, vit, added, start)
    own = len(added.state_dict())
    # Of both encoders and the predictor, the numbers of batches that norms have seen are left.
    assert said.endswith(
        f"{own} tensors of MoCo v3's own modules taken, 3 (projection head), 3 (another branch), 2 "
        "(predictor) left"
    )
    stored = torch.load(official, weights_only=False)["state_dict"]
    found = added.momentum_encoder.blocks[1].mlp.fc1.weight
    assert torch.equal(found, stored["module.momentum_encoder.blocks.1.mlp.fc1.weight"])
    assert torch.equal(added.predictor[3].weight, stored["module.predictor.3.weight"])


def test_heads_of_other_widths_start_anew_and_the_average_at_the_backbone(official: Path) -> None:
    objective = MoCoV3(MoCoV3.Config(**SMALL))
    start = load_start(str(official), SMALL_VIT, beside=objective.in_files)
    vit = SMALL_VIT.build()
    begin_with(vit, start)
    added = objective.added(vit)
    said = begin_own_with(objective, vit, added, start)
    assert "MoCo v3's own modules start anew, as projector.0.weight is (48, 128), needed" in said
    for ours, theirs in zip(vit.parameters(), added.momentum_encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)
