"""ExtreMA against plain loops over images and subsets, with timm's modules called by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, init_mae_, named_arch
from micl_bench.objectives.extrema import ExtreMA, extrema_loss
from micl_bench.runtime.errors import InputError

ARCH = Arch(
    name="test", img_size=24, patch_size=4, width=32, depth=3, num_heads=2, class_token=False
)
N, L, SEED = 3, 36, 7
SMALL: dict[str, Any] = {"hidden_width": 24, "output_width": 8}


def built(**values: Any) -> tuple[ExtreMA, VisionTransformer, nn.Module]:
    """An objective, its student and its modules, all away from where they start."""
    objective = ExtreMA(ExtreMA.Config(**SMALL, **values))
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
    # The teacher is somewhere else than the student.
    for parameter in added.teacher.parameters():
        parameter.data.mul_(1.25)
    return objective, vit, added


def images() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(N, 3, 24, 24, dtype=torch.float64, generator=generator)


def tokens_by_hand(
    vit: VisionTransformer, image_CHW: Tensor, places: list[int], weights_R: list[float]
) -> Tensor:
    """tokens_KD of these patches after timm's blocks, whose branches are times 0 or 1 / (1 - p)."""
    assert vit.pos_embed is not None
    all_LD = vit.patch_embed(image_CHW[None])[0] + vit.pos_embed[0]
    tokens_1KD = torch.stack([all_LD[place] for place in places])[None]
    weights = iter(weights_R)
    for number, block in enumerate(vit.blocks):
        for norm, branch in ((block.norm1, block.attn), (block.norm2, block.mlp)):
            # The first block's are never left out.
            weight = next(weights) if weights_R and number else 1.0
            tokens_1KD = tokens_1KD + weight * branch(norm(tokens_1KD))
    return tokens_1KD[0]


def read_by_hand(read_out: nn.Module, norm: nn.Module, tokens_KD: Tensor, heads: int) -> Tensor:
    """CaiT's class attention, a head at a time."""
    class_D = read_out.token_D
    for block in read_out.blocks:
        seen_UD = block.norm1(torch.stack([class_D, *tokens_KD]))
        attn = block.attn
        q_D, k_UD, v_UD = attn.q(seen_UD[0]), attn.k(seen_UD), attn.v(seen_UD)
        width = len(q_D) // heads
        parts = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            logits = [(q_D[own] @ k_D[own]).item() / math.sqrt(width) for k_D in k_UD]
            total = sum(math.exp(logit) for logit in logits)
            shares = [math.exp(logit) / total for logit in logits]
            parts.append(sum(share * v_D[own] for share, v_D in zip(shares, v_UD, strict=True)))
        class_D = class_D + block.gamma_1 * attn.proj(torch.cat(parts))
        class_D = class_D + block.gamma_2 * block.mlp(block.norm2(class_D))
    return norm(class_D)


def mlp_by_hand(mlp: nn.Module, row_D: Tensor) -> Tensor:
    linears = [module for module in mlp if isinstance(module, nn.Linear)]
    norms = [module for module in mlp if isinstance(module, nn.LayerNorm)]
    for linear, norm in zip(linears[:-1], norms, strict=True):
        row_D = F.gelu(norm(linear(row_D)))
    return linears[-1](row_D)


@pytest.mark.parametrize("drop_path", [0.0, 0.6])
def test_rows_and_loss_equal_plain_loops(drop_path: float) -> None:
    objective, vit, added = built(drop_path=drop_path)
    seen = objective.wants(ARCH).of_images(images(), np.arange(N), seed=SEED)
    rows = objective.encode(vit, added, seen)
    assert rows.shape == (N, 5 + 1, 8)
    # A fifth of 36 patches is 7.2.
    order_NL = seen.keep_NVK[:, 0].tolist()
    assert sorted(order_NL[0]) == list(range(L))
    distances = []
    for image in range(N):
        whole_LD = tokens_by_hand(added.teacher, images()[image], list(range(L)), [])
        read_D = read_by_hand(added.teacher_read_out, added.teacher.norm, whole_LD, 2)
        target = mlp_by_hand(added.teacher_projector, read_D).tolist()
        assert rows[image, 5].tolist() == pytest.approx(target, rel=1e-9)
        for subset in range(5):
            places = order_NL[image][7 * subset : 7 * subset + 7]
            weights = seen.drawn["paths_NMR"][image, subset].double().tolist()
            tokens_KD = tokens_by_hand(vit, images()[image], places, weights)
            read_D = read_by_hand(added.read_out, vit.norm, tokens_KD, 2)
            row = mlp_by_hand(added.predictor, mlp_by_hand(added.projector, read_D)).tolist()
            # Weights of dropped paths are drawn in fp32.
            assert rows[image, subset].tolist() == pytest.approx(row, rel=1e-6)
            lengths = math.hypot(*row), math.hypot(*target)
            distances.append(
                sum(
                    (a / lengths[0] - b / lengths[1]) ** 2 for a, b in zip(row, target, strict=True)
                )
            )
    loss = objective.loss(rows).loss
    assert loss.item() == pytest.approx(sum(distances) / len(distances), rel=1e-6)


def test_paths_are_left_out_in_the_published_shares_of_blocks() -> None:
    objective = ExtreMA(ExtreMA.Config(**SMALL))
    arch = named_arch("vit_small_patch16_224_nocls")
    paths_NMR = objective.wants(arch).more(0, 0, np.arange(400))["paths_NMR"]
    assert paths_NMR.shape == (400, 5, 2 * 11)
    dropped = (paths_NMR == 0).double().mean((0, 1))
    # 0.1 in the last of 12 blocks, evenly from 0; 2,000 draws each: deviation below 0.007.
    expected = [0.1 * block / 11 for block in range(1, 12) for _ in range(2)]
    assert dropped.tolist() == pytest.approx(expected, abs=0.03)
    other = objective.wants(arch).more(0, 1, np.arange(400))["paths_NMR"]
    assert not torch.equal(paths_NMR, other)


def test_loss_has_its_closed_forms() -> None:
    x, y = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.5])
    assert extrema_loss(x.expand(1, 2, 2), 7 * x[None]).item() == 0
    assert extrema_loss(x.expand(1, 2, 2), -x[None]).item() == 4
    assert extrema_loss(torch.stack([x, y])[None], y[None]).item() == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert extrema_loss(x.expand(1, 2, 2), y[None]).dtype == torch.float32


def test_the_student_learns_and_the_teacher_does_not() -> None:
    objective, vit, added = built()
    seen = objective.wants(ARCH).of_images(images(), np.arange(N), seed=SEED)
    objective.loss(objective.encode(vit, added, seen)).loss.backward()
    without = [name for name, p in vit.named_parameters() if p.grad is None]
    assert without == ["pos_embed"]
    for name, parameter in added.named_parameters():
        assert (parameter.grad is None) == name.startswith("teacher"), name


def test_the_teacher_follows_all_that_it_has() -> None:
    objective, vit, added = built(momentum=0.8)
    pairs = [
        (added.teacher, vit),
        (added.teacher_read_out, added.read_out),
        (added.teacher_projector, added.projector),
    ]
    # (1 + 0.8) / 2 where the cosine is half way.
    expected = [
        [0.9 * old + 0.1 * new for old, new in zip(*(m.parameters() for m in pair), strict=True)]
        for pair in pairs
    ]
    objective.after_step(vit, added, torch.empty(0), 0.5)
    for (twin, _), wanted in zip(pairs, expected, strict=True):
        for parameter, value in zip(twin.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.data, value.data, rtol=1e-12, atol=1e-12)


def test_defaults_are_those_of_the_authors_command() -> None:
    config = ExtreMA().config
    assert (config.num_subsets, config.mask_ratio, config.momentum) == (5, 0.8, 0.996)
    assert (config.drop_path, config.class_attention_blocks, config.layer_scale) == (0.1, 2, 0.1)
    assert (config.hidden_width, config.output_width) == (4096, 256)
    assert ExtreMA.backbone == "added.teacher"


@pytest.mark.parametrize(("ratio", "subsets", "kept"), [(0.8, 5, 39), (0.9, 8, 19), (0.75, 4, 49)])
def test_subsets_have_the_published_sizes(ratio: float, subsets: int, kept: int) -> None:
    objective = ExtreMA(ExtreMA.Config(num_subsets=subsets, mask_ratio=ratio))
    arch = named_arch("vit_base_patch16_224_nocls")
    assert objective.wants(arch).per_view == 196
    assert objective._subset(196) == kept


def test_words_and_pictures_are_those_of_the_subsets() -> None:
    objective = ExtreMA(ExtreMA.Config(**SMALL))
    assert objective.sees(ARCH) == "the student sees 5 subsets of 7 of 36 patches, the teacher all"
    keep_NVK = objective.wants(ARCH).draw(0, 0, np.arange(2))
    shown = objective.shown(keep_NVK, {})
    assert list(shown) == [f"subset {number}" for number in range(1, 6)]
    assert torch.equal(torch.cat([*shown.values()], dim=1), keep_NVK[:, 0, :35])


def test_flop_are_those_of_the_tokens() -> None:
    # Of a network that is almost nothing but blocks, the student's 35 tokens count three times.
    objective = ExtreMA(ExtreMA.Config(**SMALL, class_attention_blocks=1))
    arch = Arch(
        name="test", img_size=24, patch_size=4, width=128, depth=8, num_heads=2, class_token=False
    )
    per_token = 8 * 2 * 12 * 128**2
    # Attention's products and the read-out are the rest.
    expected = per_token * (3 * 35 + 36)
    assert objective.flop_per_image(arch) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("arch", "values", "message"),
    [
        (named_arch("vit_demo_patch4_32"), {}, "set arch=vit_demo_patch4_32_nocls"),
        (ARCH, {"num_subsets": 6}, "6 subsets of 7 patches that share none do not fit into 36"),
        (ARCH, {"mask_ratio": 0.99}, "leaves no patch"),
    ],
)
def test_what_does_not_fit_is_refused(arch: Arch, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExtreMA(ExtreMA.Config(**values)).wants(arch)
