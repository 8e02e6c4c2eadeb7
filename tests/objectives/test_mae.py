"""MAE against a twin in plain loops, lightly's modules, and real runs."""

import dataclasses
import math
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checkpoints.layouts import LAYOUTS, SMALL
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.utils import get_at_index, normalize_mean_var, patchify, set_at_index
from support import REPOSITORY, finish, losses, overrides, signalled
from torch import Tensor, nn

from micl_bench.backbone import Arch, init_mae_
from micl_bench.data.visible import Seen
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives import Bound
from micl_bench.objectives.mae import MAE, Decoder, normalised_patches
from micl_bench.patches import patchify as our_patchify
from micl_bench.runs.states import States
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError

N, L, PATCH = 3, 16, 8
State = dict[str, Tensor]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file in the authors' layout: width 128, 2 blocks, patches of 8; decoder of width 64, 1 block."""
    return LAYOUTS["mae-decoder"](tmp_path)


@pytest.fixture
def images_NCHW() -> Tensor:
    return torch.randn(N, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def some_patches(kept: int) -> Tensor:
    noise_NL = torch.rand(N, L, generator=torch.Generator().manual_seed(3))
    return noise_NL.argsort(dim=1)[:, :kept].unsqueeze(1)


def block_by_hand(tokens_TD: Tensor, state: State, name: str, heads: int) -> Tensor:
    """A block of a ViT: norm, attention head by head and token by token, norm, MLP."""
    D = tokens_TD.shape[1]

    def part(layer: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.{layer}.weight"], state[f"{name}.{layer}.bias"]

    normed_TD = F.layer_norm(tokens_TD, (D,), *part("norm1"), eps=1e-6)
    weight, bias = part("attn.qkv")
    found_TD = torch.zeros_like(tokens_TD)
    for head in range(heads):
        own = [slice(n * D + head * D // heads, n * D + (head + 1) * D // heads) for n in range(3)]
        query_Td, key_Td, value_Td = (normed_TD @ weight[one].T + bias[one] for one in own)
        for token in range(len(tokens_TD)):
            score_T = (key_Td @ query_Td[token]) / math.sqrt(D / heads)
            share_T = score_T.exp() / score_T.exp().sum()
            found_TD[token, own[0]] = share_T @ value_Td
    weight, bias = part("attn.proj")
    tokens_TD = tokens_TD + found_TD @ weight.T + bias
    normed_TD = F.layer_norm(tokens_TD, (D,), *part("norm2"), eps=1e-6)
    hidden = F.gelu(F.linear(normed_TD, *part("mlp.fc1")))
    return tokens_TD + F.linear(hidden, *part("mlp.fc2"))


def loss_by_hand(
    state: State, images_NCHW: Tensor, keep_NK: Tensor, heads: tuple[int, int]
) -> Tensor:
    """MAE's loss from the tensors of an official file: one image, one patch, one token at a time."""
    errors = []
    for image_CHW, keep_K in zip(images_NCHW, keep_NK.tolist(), strict=True):
        grid = image_CHW.shape[1] // PATCH
        cut = {
            row * grid + column: image_CHW[
                :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH
            ]
            for row in range(grid)
            for column in range(grid)
        }
        weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
        positions_TD = state["pos_embed"][0]
        tokens = [state["cls_token"][0, 0] + positions_TD[0]]
        for place in keep_K:
            embedded_D = (weight * cut[place]).sum((1, 2, 3)) + bias
            tokens.append(embedded_D + positions_TD[1 + place])
        tokens_TD = torch.stack(tokens)
        depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        for number in range(depth):
            tokens_TD = block_by_hand(tokens_TD, state, f"blocks.{number}", heads[0])
        norm = state["norm.weight"], state["norm.bias"]
        tokens_TD = F.layer_norm(tokens_TD, tokens_TD.shape[1:], *norm, eps=1e-6)

        embed = state["decoder_embed.weight"], state["decoder_embed.bias"]
        embedded_TD = F.linear(tokens_TD, *embed)
        # In the order of the picture, a mask token where nothing was seen.
        at = {place: 1 + number for number, place in enumerate(keep_K)}
        sequence = [embedded_TD[0]]
        for place in range(grid * grid):
            seen = place in at
            sequence.append(embedded_TD[at[place]] if seen else state["mask_token"][0, 0])
        tokens_TD = torch.stack(sequence) + state["decoder_pos_embed"][0]
        depth = len({n.split(".")[1] for n in state if n.startswith("decoder_blocks.")})
        for number in range(depth):
            tokens_TD = block_by_hand(tokens_TD, state, f"decoder_blocks.{number}", heads[1])
        norm = state["decoder_norm.weight"], state["decoder_norm.bias"]
        tokens_TD = F.layer_norm(tokens_TD, tokens_TD.shape[1:], *norm, eps=1e-6)
        predicted = F.linear(tokens_TD, state["decoder_pred.weight"], state["decoder_pred.bias"])

        for place in range(grid * grid):
            if place in at:
                continue
            # (row, column, channel), as the authors' files predict them.
            values_P = torch.stack(
                [
                    cut[place][channel, row, column]
                    for row in range(PATCH)
                    for column in range(PATCH)
                    for channel in range(3)
                ]
            )
            mean = values_P.sum() / len(values_P)
            variance = (values_P - mean).square().sum() / (len(values_P) - 1)
            target_P = (values_P - mean) / (variance + 1e-6).sqrt()
            errors.append((predicted[1 + place] - target_P).square().mean())
    return torch.stack(errors).mean()


def test_an_official_file_gives_the_loss_and_gradient_of_a_twin_in_plain_loops(
    official: Path, images_NCHW: Tensor
) -> None:
    keep_N1K = some_patches(4)
    bound = MAE(MAE.Config(mask_ratio=0.75)).from_checkpoint(official)
    loss = bound(images_NCHW, keep_N1K).loss
    state = torch.load(official, weights_only=False)["model"]
    exact = {name: value.double().requires_grad_() for name, value in state.items()}
    expected = loss_by_hand(exact, images_NCHW.double(), keep_N1K[:, 0], heads=(2, 2))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)

    bound.double()
    loss = bound(images_NCHW.double(), keep_N1K).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    loss.backward()
    expected.backward()
    found = {name.partition(".")[2]: one.grad for name, one in bound.named_parameters()}
    for name, tensor in exact.items():
        if name == "decoder_pos_embed":
            continue  # fixed
        assert tensor.grad is not None
        torch.testing.assert_close(found[name], tensor.grad, rtol=1e-8, atol=1e-12)


def test_the_unseen_order_does_not_matter_and_what_is_hidden_does(
    official: Path, images_NCHW: Tensor
) -> None:
    bound = MAE().from_checkpoint(official).double()
    images_NCHW, keep_N1K = images_NCHW.double(), some_patches(4)
    loss = bound(images_NCHW, keep_N1K).loss.item()
    assert bound(images_NCHW, keep_N1K.flip(2)).loss.item() == pytest.approx(loss, rel=1e-12)
    other = some_patches(8)[:, :, 4:]
    assert bound(images_NCHW, other).loss.item() != pytest.approx(loss, rel=1e-6)


def test_without_patches_they_are_drawn_from_torchs_generator(
    official: Path, images_NCHW: Tensor
) -> None:
    bound = MAE().from_checkpoint(official)
    torch.manual_seed(4)
    first, second = (bound(images_NCHW).loss.item() for _ in range(2))
    torch.manual_seed(4)
    assert bound(images_NCHW).loss.item() == first != second


def test_loss_and_gradient_are_those_of_lightlys_modules() -> None:
    arch = Arch(name="test", img_size=32, patch_size=PATCH, width=64, depth=2, num_heads=2)
    objective = MAE(MAE.Config(mask_ratio=0.75, decoder_depth=2, decoder_width=64))
    vit = arch.build()
    init_mae_(vit, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    added = objective.added(vit)
    for parameter in (*vit.parameters(), *added.parameters()):
        if parameter.ndim == 1:
            # Away from the identity, so that leaving one out would show.
            nn.init.uniform_(parameter, 0.5, 1.5)
    bound = Bound(objective, arch, vit, added).double()
    images_NCHW = torch.randn(N, 3, 32, 32, dtype=torch.float64)
    keep_N1K = some_patches(4)
    loss = bound(images_NCHW, keep_N1K).loss

    theirs = MaskedVisionTransformerDecoderTIMM(
        num_patches=L, embed_dim=64, depth=2, num_heads=2
    ).double()
    renamed = {
        name.removeprefix("decoder_"): value
        for name, value in added.state_dict().items()
        if not name.startswith(("decoder_embed", "decoder_pred"))
    }
    assert torch.allclose(theirs.pos_embed, renamed["pos_embed"], atol=1e-6)
    theirs.load_state_dict(renamed)
    wrapped = MaskedVisionTransformerTIMM(
        vit, weight_initialization="skip", pos_embed_initialization="skip"
    )
    kept_NT = torch.cat([torch.zeros(N, 1, dtype=torch.long), keep_N1K[:, 0] + 1], dim=1)
    hidden_NH = torch.stack(
        [torch.tensor(sorted({*range(1, L + 1)} - {*row})) for row in kept_NT.tolist()]
    )
    encoded = added.decoder_embed(wrapped.encode(images_NCHW, idx_keep=kept_NT))
    empty = encoded.new_zeros(N, L + 1, 64)
    decoded = theirs(set_at_index(empty, kept_NT, encoded), idx_mask=hidden_NH)
    predicted = added.decoder_pred(get_at_index(decoded, hidden_NH))
    target = get_at_index(patchify(images_NCHW, PATCH), hidden_NH - 1)
    expected = F.mse_loss(predicted, normalize_mean_var(target, dim=-1))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)

    weights = [vit.patch_embed.proj.weight, vit.cls_token, added.decoder_pred.weight]
    for ours, other in zip(
        torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-12)


def test_the_target_of_a_patch_in_closed_form() -> None:
    # Channels of 0, 1 and 2 in every pixel, 12 values: mean 1, unbiased variance 8 / 11.
    patch_P = torch.arange(3.0).repeat_interleave(4)
    target_P = normalised_patches(patch_P[None, None])[0, 0]
    level = 1 / math.sqrt(8 / 11 + 1e-6)
    assert target_P.tolist() == pytest.approx([-level, 0, level] * 4, rel=1e-6)
    # Nothing but eps keeps a patch of one colour from 0 / 0.
    assert normalised_patches(torch.full((1, 1, 12), 3.0)).tolist() == [[[0.0] * 12]]


def test_a_decoder_that_says_nothing_has_the_loss_of_the_patches_means(images_NCHW: Tensor) -> None:
    objective, vit = MAE(MAE.Config(decoder_depth=1, decoder_width=32)), SMALL.build()
    added = objective.added(vit)
    nn.init.zeros_(added.decoder_pred.weight)
    output = Bound(objective, SMALL, vit, added)(images_NCHW, some_patches(4))
    # Of P = 192 values the unbiased variance is 1: their mean square is (P - 1) / P.
    assert output.loss.item() == pytest.approx(191 / 192, rel=1e-4)
    assert output.numbers["loss_of_patch_means"].item() == output.loss.item()


def test_the_first_patches_in_drawn_order_are_the_visible_ones(images_NCHW: Tensor) -> None:
    objective = MAE(MAE.Config(decoder_depth=1, decoder_width=32))
    vit = SMALL.build()
    added = objective.added(vit)
    wants = objective.wants(SMALL)
    keep_N1L = wants.draw(7, 0, np.arange(N))
    assert keep_N1L.shape == (N, 1, L)
    assert keep_N1L.sort(dim=2).values.tolist() == [[list(range(L))]] * N
    seen = Seen(our_patchify(images_NCHW, PATCH).gather(
        1, keep_N1L[:, 0, :, None].expand(-1, -1, 192)), keep_N1L)  # fmt: skip
    drawn = objective.loss(objective.encode(vit, added, seen)).loss
    bound = Bound(objective, SMALL, vit, added)
    given = bound(images_NCHW, keep_N1L[:, :, :4]).loss
    assert drawn.item() == pytest.approx(given.item(), rel=1e-6)


def test_the_loss_is_fp32_under_autocast(official: Path, images_NCHW: Tensor) -> None:
    bound, keep_N1K = MAE().from_checkpoint(official), some_patches(4)
    exact = bound(images_NCHW, keep_N1K).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = bound(images_NCHW, keep_N1K).loss
    assert loss.dtype == torch.float32
    # The blocks did run in bfloat16, of 8 bits.
    assert loss.item() != exact.item()
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize(
    ("images", "keep", "message"),
    [
        (
            lambda i: i.double(),
            lambda k: k,
            "images are torch.float64, the network is torch.float32",
        ),
        (lambda i: i.to(torch.uint8), lambda k: k, "images are torch.uint8"),
        (lambda i: i[:, :1], lambda k: k, r"needed: \(images, 3, H, W\)"),
        (lambda i: i[0], lambda k: k, r"needed: \(images, 3, H, W\)"),
        (lambda i: i[:0], lambda k: k[:0], r"needed: \(images, 3, H, W\)"),
        (lambda i: i, lambda k: k.float(), "keep_NVK is torch.float32"),
        (lambda i: i, lambda k: k[:, 0], "needed: whole numbers, by image, view and patch"),
        (lambda i: i, lambda k: k + 1000, "the patches are 0 to"),
        (lambda i: i, torch.zeros_like, "a patch of an image twice"),
    ],
)
def test_what_is_no_batch_of_images_and_patches_is_refused(
    official: Path,
    images_NCHW: Tensor,
    images: Callable[[Tensor], Tensor],
    keep: Callable[[Tensor], Tensor],
    message: str,
) -> None:
    bound = MAE().from_checkpoint(official)
    with pytest.raises(InputError, match=message):
        bound(images(images_NCHW), keep(some_patches(4)))


def test_activations_that_are_computed_again_change_nothing(
    official: Path, images_NCHW: Tensor
) -> None:
    found = []
    for again in (False, True):
        bound = MAE().from_checkpoint(official)
        bound.vit.set_grad_checkpointing(again)
        bound(images_NCHW, some_patches(4)).loss.backward()
        found.append({name: one.grad for name, one in bound.named_parameters()})
    for name, gradient in found[0].items():
        if gradient is not None:
            assert torch.equal(gradient, found[1][name]), name


def test_a_files_decoder_has_its_own_sizes_and_comes_to_another_input_size(
    official: Path, images_NCHW: Tensor
) -> None:
    bound = MAE().from_checkpoint(official, img_size=64)
    assert isinstance(bound.added, Decoder)
    assert bound.objective.config == MAE.Config(decoder_depth=1, decoder_width=64)
    assert bound.added.decoder_pos_embed.shape == (1, 1 + 64, 64)
    assert torch.isfinite(bound(F.interpolate(images_NCHW, size=64)).loss)


def test_a_file_without_tables_is_read_too(tmp_path: Path, images_NCHW: Tensor) -> None:
    flat, keep_N1K = LAYOUTS["mae-flat"](tmp_path), some_patches(4)
    ours, theirs = (
        MAE().from_checkpoint(path)(images_NCHW, keep_N1K).loss.item()
        for path in (flat, tmp_path / "mae_checkpoint-199.pth")
    )
    assert ours == theirs


@pytest.mark.parametrize("layout", ["mae-published", "timm"])
def test_a_file_without_a_decoder_is_refused_in_one_line(tmp_path: Path, layout: str) -> None:
    objective = MAE(MAE.Config(decoder_depth=1, decoder_width=32))
    with pytest.raises(InputError, match="does not hold MAE's own modules") as caught:
        objective.from_checkpoint(LAYOUTS[layout](tmp_path))
    assert "mask_token is missing" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoder_embed.weight": torch.zeros(40, 128)}, "decoder_width is 40"),
        ({"decoder_pred.bias": torch.zeros(5)}, "decoder_pred.bias is (5,), needed (192,)"),
        ({"decoder_extra": torch.zeros(5)}, "decoder_extra has no place"),
        ({"mask_token": torch.full((1, 1, 64), torch.nan)}, "NaN or infinity in mask_token"),
        ({"decoder_pos_embed": torch.zeros(1, 16, 64)}, "decoder_pos_embed is (1, 16, 64)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_decoder_is_refused_by_name(official: Path, change: State, said: str) -> None:
    content = torch.load(official, weights_only=False)
    content["model"] |= change
    torch.save(content, official)
    with pytest.raises(InputError) as caught:
        MAE().from_checkpoint(official)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (torch.zeros(N, 1, 5, dtype=torch.long), "(3, 1, 5); needed: one view of 4 of 16 patches"),
        (torch.zeros(N, 4, dtype=torch.long), "(3, 4); needed: whole numbers, by image, view"),
        (torch.zeros(N, 1, 4, dtype=torch.long), "a patch of an image twice"),
        (
            torch.arange(13, 17).expand(N, 1, 4),
            "keep_NVK runs from 13 to 16; the patches are 0 to 15",
        ),
        (torch.zeros(1, 1, 4, dtype=torch.long), "1 sets of patches for 3 images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_patches_are_refused(
    official: Path, images_NCHW: Tensor, keep: Tensor, said: str
) -> None:
    bound = MAE().from_checkpoint(official)
    with pytest.raises(InputError) as caught:
        bound(images_NCHW, keep)
    assert said in str(caught.value)


def test_defaults_are_the_published_ones_and_impossible_values_are_refused() -> None:
    assert MAE().config == MAE.Config(mask_ratio=0.75, decoder_depth=8, decoder_width=512)
    added = MAE().added(dataclasses.replace(SMALL, patch_size=16).build())
    assert {block.attn.num_heads for block in added.decoder_blocks} == {16}
    assert {block.norm1.eps for block in added.decoder_blocks} == {1e-6}
    for values, said in (
        ({"mask_ratio": 0.0}, "needed: above 0"),
        ({"mask_ratio": 1.0}, "needed"),
        ({"decoder_depth": 0}, "needed"),
        ({"decoder_width": 48}, "decoder_width is 48; needed: a multiple of 32"),
    ):
        with pytest.raises(InputError, match=said):
            MAE.Config(**values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="leaves no patch"):
        MAE(MAE.Config(mask_ratio=0.99)).wants(SMALL)
    with pytest.raises(InputError, match="hides none of 16 patches"):
        MAE(MAE.Config(mask_ratio=1e-9)).wants(SMALL)


def test_flop_are_those_of_encoder_and_decoder() -> None:
    arch = dataclasses.replace(SMALL, width=64)
    config = MAE.Config(decoder_depth=1, decoder_width=32)

    def of_blocks(tokens: int, width: int, depth: int) -> int:
        # Multiplications: q, k, v, projection, MLP (12 D^2 a token), scores and sums (2 T^2 D).
        return depth * (12 * tokens * width**2 + 2 * tokens**2 * width)

    forward = (
        4 * 192 * 64 + of_blocks(5, 64, 2) + 5 * 64 * 32 + of_blocks(17, 32, 1) + 12 * 32 * 192
    )
    # Forward, and twice that backward, less the gradient of pixels.
    expected = 2 * (3 * forward - 4 * 192 * 64)
    assert MAE(config).flop_per_image(arch) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("size", "epochs"), [("s", 800), ("b", 1600)])
def test_imagenet_recipes_have_the_published_values(size: str, epochs: int) -> None:
    recipe = load_recipe(REPOSITORY / "pretrain" / f"imagenet_mae_vit_{size}16.py", PretrainRecipe)
    assert recipe.objective == MAE.Config()
    assert (recipe.epochs, recipe.batch_size, recipe.optim.warmup_epochs) == (epochs, 4096, 40)
    assert (recipe.optim.base_lr, recipe.optim.weight_decay) == (1.5e-4, 0.05)
    assert recipe.optim.betas == (0.9, 0.95)
    assert (recipe.pixels.crop_scale, recipe.pixels.flip) == ((0.2, 1.0), True)


SHORT = (
    "batch_size=16", "epochs=4", "knn_every_epochs=4", "save_every_steps=3", "knn_k=5",
    "objective.decoder_depth=1", "objective.decoder_width=32", "optim.warmup_epochs=1",
)  # fmt: skip


def pretraining(data: Path, out: Path, *more: str) -> list[str]:
    words = ["pretrain", "embedded_mae", "--data", data, "--out", out]
    return [*map(str, words), *overrides(*SHORT, *more)]


@pytest.mark.long
@pytest.mark.parametrize("micro_batch", [0, 5])
def test_a_run_that_a_signal_cuts_ends_with_the_same_bits(
    few_digits: Path, tmp_path: Path, micro_batch: int
) -> None:
    more, whole, cut = f"micro_batch={micro_batch}", tmp_path / "whole", tmp_path / "cut"
    finish(pretraining(few_digits, whole, more))
    signalled(pretraining(few_digits, cut, more), cut, 7, signal.SIGTERM)
    assert 0 < len(losses(cut)) < len(losses(whole)) == 20
    assert "going on from step" in finish(pretraining(few_digits, cut, more))
    assert losses(cut) == losses(whole)
    ours, theirs = (States(out / "states").newest() for out in (cut, whole))
    assert ours
    assert theirs
    assert {"added.mask_token", "added.decoder_blocks.0.attn.qkv.weight"} < ours["model"].keys()
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
