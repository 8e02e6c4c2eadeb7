"""I-JEPA against plain loops, with timm's modules called by hand and lightly's predictor."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, init_mae_, named_arch
from micl_bench.data.visible import Seen
from micl_bench.objectives.ijepa import IJepa, ijepa_errors
from micl_bench.runtime.errors import InputError

ARCH = Arch(
    name="test", img_size=32, patch_size=4, width=32, depth=2, num_heads=2, class_token=False
)
N, SEED = 3, 7


def built(**values: Any) -> tuple[IJepa, VisionTransformer, nn.Module]:
    """An objective, its encoder and its modules, all away from where they start."""
    objective = IJepa(IJepa.Config(predictor_depth=2, predictor_width=16, **values))
    vit = ARCH.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    added = objective.added(vit.train())
    generator = torch.Generator().manual_seed(2)
    for module in (vit, added):
        module.double()
        for parameter in module.parameters():
            if parameter.ndim == 1:
                nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    for parameter in added.teacher.parameters():
        parameter.data.mul_(1.25)
    return objective, vit, added


def views(objective: IJepa) -> tuple[Tensor, Seen]:
    generator = torch.Generator().manual_seed(3)
    images_NCHW = torch.randn(N, 3, 32, 32, dtype=torch.float64, generator=generator)
    wants = objective.wants(ARCH)
    assert (wants.num_views, wants.per_view, wants.of) == (1, 64, 64)
    return images_NCHW, wants.of_images(images_NCHW, np.arange(N), seed=SEED)


def lightlys(added: nn.Module) -> IJEPAPredictorTIMM:
    """lightly's predictor with the numbers of ours."""
    theirs = IJEPAPredictorTIMM(
        num_patches=64,
        depth=2,
        mlp_dim=32,
        predictor_embed_dim=16,
        num_heads=2,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    ).double()
    ours = added.predictor.state_dict()
    names = {"mask_11C": "decoder.mask_token", "places_LC": "decoder.pos_embed"}
    renamed = {}
    for name, value in ours.items():
        name = name.replace("embed.", "predictor_embed.", 1) if name.startswith("embed.") else name
        name = name.replace("project.", "predictor_proj.", 1)
        name = f"decoder.{name}" if name.startswith(("blocks.", "norm.")) else name
        renamed[names.get(name, name)] = value[None] if name == "places_LC" else value
    theirs.load_state_dict(renamed)
    return theirs


def encoded_by_hand(vit: VisionTransformer, image_CHW: Tensor, places: list[int]) -> Tensor:
    assert vit.pos_embed is not None
    all_LD = vit.patch_embed(image_CHW[None])[0] + vit.pos_embed[0]
    sequence = torch.stack([all_LD[place] for place in places])[None]
    return vit.norm(vit.blocks(sequence))[0]


def test_loss_equals_plain_loops_and_lightlys_predictor() -> None:
    objective, vit, added = built()
    images_NCHW, seen = views(objective)
    theirs = lightlys(added)
    rows = objective.encode(vit, added, seen)
    assert rows.shape == (N, 1 + 32)
    context_NK, targets_NTA = seen.drawn["context_NK"], seen.drawn["targets_NTA"]
    losses = []
    for image in range(N):
        whole_LD = encoded_by_hand(added.teacher, images_NCHW[image], list(range(64)))
        target_LD = []
        for row in whole_LD.tolist():
            mean = sum(row) / 32
            variance = sum((value - mean) ** 2 for value in row) / 32
            # Without weights, at torch's own epsilon.
            target_LD.append([(value - mean) / math.sqrt(variance + 1e-5) for value in row])
        places = context_NK[image].tolist()
        context_1KD = encoded_by_hand(vit, images_NCHW[image], places)[None]
        distances = []
        for target_A in targets_NTA[image]:
            predicted_AD = theirs(
                context_1KD.clone(), context_NK[image : image + 1], target_A[None]
            )
            for place, row in zip(target_A.tolist(), predicted_AD[0].tolist(), strict=True):
                for ours, wanted in zip(row, target_LD[place], strict=True):
                    away = abs(ours - wanted)
                    distances.append(away * away / 2 if away < 1 else away - 0.5)
        assert len(distances) == targets_NTA[image].numel() * 32
        losses.append(sum(distances) / len(distances))
        assert rows[image, 0].item() == pytest.approx(losses[-1], rel=1e-10)
        means = [sum(column) / 64 for column in zip(*target_LD, strict=True)]
        assert rows[image, 1:].tolist() == pytest.approx(means, rel=1e-9, abs=1e-12)
    assert objective.loss(rows).loss.item() == pytest.approx(sum(losses) / N, rel=1e-10)


def test_the_distance_is_quadratic_up_to_one_and_linear_beyond() -> None:
    target = torch.zeros(5, 1, 1, 1)
    predicted = torch.tensor([0.0, 0.5, -1.0, 2.0, -4.0]).view(5, 1, 1, 1)
    assert ijepa_errors(predicted, target).tolist() == [0.0, 0.125, 0.5, 1.5, 3.5]
    halves = ijepa_errors(predicted.bfloat16(), target.bfloat16())
    assert halves.dtype == torch.float32


def test_hidden_patches_reach_the_prediction_by_no_way() -> None:
    objective, vit, added = built()
    _, seen = views(objective)
    context_NKD = torch.randn(N, seen.drawn["context_NK"].shape[1], 32, dtype=torch.float64)
    before = added.predictor(context_NKD, **places(seen))
    # The predictor gets no pixels; the encoder only the context's.
    kept = torch.zeros(N, 64, dtype=torch.bool).scatter_(1, seen.drawn["context_NK"], True)
    changed = Seen(torch.where(kept[..., None], seen.visible_NMP, 100.0), seen.keep_NVK, seen.drawn)
    assert torch.equal(before, added.predictor(context_NKD, **places(seen)))
    gradients = []
    for one in (seen, changed):
        # With a fixed target, only the context could make a difference.
        added.teacher.requires_grad_(False)
        for parameter in added.teacher.parameters():
            parameter.data.zero_()
        vit.zero_grad()
        objective.loss(objective.encode(vit, added, one)).loss.backward()
        assert vit.patch_embed.proj.weight.grad is not None
        gradients.append(vit.patch_embed.proj.weight.grad.clone())
    assert gradients[0].any()
    assert torch.equal(*gradients)


def places(seen: Seen) -> dict[str, Tensor]:
    return {name: seen.drawn[name] for name in ("context_NK", "targets_NTA")}


def test_encoder_and_predictor_learn_and_the_target_encoder_does_not() -> None:
    objective, vit, added = built()
    _, seen = views(objective)
    objective.loss(objective.encode(vit, added, seen)).loss.backward()
    assert [name for name, p in vit.named_parameters() if p.grad is None] == ["pos_embed"]
    for name, parameter in added.named_parameters():
        assert (parameter.grad is None) == name.startswith("teacher"), name


def test_the_target_encoder_follows_by_the_linear_momentum() -> None:
    objective, vit, added = built(momentum=0.8)
    expected = [
        0.85 * old + 0.15 * new
        for old, new in zip(added.teacher.parameters(), vit.parameters(), strict=True)
    ]
    objective.after_step(vit, added, torch.empty(0), 0.25)
    for parameter, value in zip(added.teacher.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.data, value.data, rtol=1e-12, atol=1e-12)


def test_defaults_are_those_of_the_paper() -> None:
    config = IJepa().config
    assert (config.num_targets, config.min_context) == (4, 10)
    assert (config.target_share, config.target_aspect) == ((0.15, 0.2), (0.75, 1.5))
    assert config.context_share == (0.85, 1.0)
    assert (config.predictor_depth, config.predictor_width, config.momentum) == (12, 384, 0.996)
    assert IJepa.backbone == "added.teacher"


@pytest.mark.parametrize(
    ("arch", "values", "message"),
    [
        (named_arch("vit_demo_patch4_32"), {}, "set arch=vit_demo_patch4_32_nocls"),
        (ARCH, {"predictor_width": 17}, "a multiple of 4 and of the 2 heads"),
        (ARCH, {"num_targets": 6}, "6 targets of up to 12 of 64 patches may leave 0"),
    ],
)
def test_what_does_not_fit_is_refused(arch: Arch, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        IJepa(IJepa.Config(**values)).wants(arch)


def test_flop_are_those_of_the_tokens_in_the_mean_over_batches() -> None:
    objective = IJepa(IJepa.Config(predictor_depth=4, predictor_width=64))
    arch = Arch(
        name="test", img_size=32, patch_size=4, width=128, depth=8, num_heads=2, class_token=False
    )
    wants = objective.wants(arch)
    expected = []
    for epoch in range(20):
        drawn = wants.more(1, epoch, np.arange(256))
        context, target = drawn["context_NK"].shape[1], drawn["targets_NTA"].shape[2]
        # 12 D^2 products a token and block: the target encoder once, the others three times.
        encoders = 8 * 12 * 128**2 * (64 + 3 * context)
        predictor = 4 * 12 * 64**2 * 3 * 4 * (context + target)
        expected.append(2 * (encoders + predictor))
    # Attention's products and the embeddings are the rest.
    assert objective.flop_per_image(arch) == pytest.approx(sum(expected) / 20, rel=0.15)


@pytest.mark.parametrize("batch_size", [64, pytest.param(1024, marks=pytest.mark.long)])
def test_tokens_are_the_mean_over_batches_of_the_runs_size(batch_size: int) -> None:
    arch, objective = named_arch("vit_small_patch16_224_nocls"), IJepa()
    wants, images = objective.wants(arch), np.arange(batch_size)
    contexts = [wants.more(1, e, images)["context_NK"].shape[1] for e in range(200)]
    student, teacher = objective.tokens_per_image(arch, batch_size=batch_size)
    # Contexts vary by 7 patches between batches: the mean of 200 by 0.5, that of 128 by 0.7. The
    # means of the two sizes are 9 apart.
    assert student == pytest.approx(np.mean(contexts), abs=2.5)
    assert teacher == 196


def test_words_and_pictures_are_those_of_context_and_targets() -> None:
    objective = IJepa(IJepa.Config(predictor_width=16))
    _, seen = views(objective)
    assert objective.sees(ARCH) == (
        "the encoder sees a context less 4 targets of 64 patches, the target encoder all"
    )
    shown = objective.shown(seen.keep_NVK, seen.drawn)
    assert list(shown) == ["context", "target 1", "target 2", "target 3", "target 4"]
    assert torch.equal(shown["context"], seen.drawn["context_NK"])
    assert torch.equal(shown["target 3"], seen.drawn["targets_NTA"][:, 2])
