"""Our own, the MiCL authors', MAE's and timm's layouts: recognised, accounted for, equal features."""

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from direct import tokens
from layouts import LAYOUTS, SMALL, mae_encoder, random_state, registers_vit, small_vit
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from micl_bench.checkpoints import (
    load_backbone,
    load_checkpoint,
    load_classifier,
    save_checkpoint,
)
from micl_bench.checkpoints._converted import PositionRule
from micl_bench.checkpoints._infer import infer_arch
from micl_bench.checkpoints._load import recognised_as
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.read import read_safely


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of every layout. Read only."""
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in LAYOUTS.items()}


@pytest.fixture(scope="module")
def images_NCHW() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_file_is_claimed_by_its_format_alone(files: dict[str, Path], name: str) -> None:
    assert recognised_as(read_safely(files[name])) == [name.partition("-")[0]]


def _network(content: dict[str, Any]) -> dict[str, Any]:
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            return content[key]
    return content


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tensor_has_one_fate(files: dict[str, Path], name: str) -> None:
    content = read_safely(files[name])
    loaded = load_checkpoint(files[name])
    inside = [fate for fate in loaded.content.fates if fate.name != "optimizer"]
    assert [fate.name for fate in inside] == list(_network(content))
    assert {fate.target for fate in inside if fate.kind != "left out"} == set(loaded.content.state)
    assert all(fate.reason for fate in loaded.content.fates if fate.kind == "left out")
    has_moments = bool(content.get("optimizer", {}).get("state"))
    assert has_moments == (len(inside) < len(loaded.content.fates))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("change", ["surplus", "missing"])
def test_a_surplus_and_a_missing_tensor_are_refused_by_name(
    files: dict[str, Path], name: str, change: str, tmp_path: Path
) -> None:
    content = read_safely(files[name])
    if change == "surplus":
        _network(content)["blocks.0.attn.surprise"] = torch.ones(2)
    else:
        del _network(content)["blocks.1.mlp.fc2.bias"]
    path = tmp_path / files[name].name
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    named = {"surplus": r"blocks\.0\.attn\.surprise", "missing": r"blocks\.1\.mlp\.fc2\.bias"}
    # As another format the file may not be read instead.
    layout = None if name.startswith(("timm", "micl_bench")) else name.partition("-")[0]
    with pytest.raises(InputError, match=named[change]):
        load_checkpoint(path, layout=layout)


@pytest.mark.parametrize("name", ["micl", "mae-decoder", "mae-flat", "mae-published", "mae-probed"])
def test_an_encoder_gives_the_tokens_of_the_published_equations(
    files: dict[str, Path], name: str, images_NCHW: Tensor
) -> None:
    state = mae_encoder()
    with torch.no_grad():
        found_NTD = load_backbone(files[name]).forward_features(images_NCHW)
        expected_NTD = tokens(state, images_NCHW, heads=2)
    torch.testing.assert_close(found_NTD, expected_NTD, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["micl", "mae-decoder"])
def test_an_encoder_at_another_size_takes_positions_as_maes_code(
    files: dict[str, Path], name: str
) -> None:
    state, images_NCHW = mae_encoder(), torch.randn(2, 3, 48, 48)
    map_1Dhw = state["pos_embed"][:, 1:].transpose(1, 2).reshape(1, 128, 4, 4)
    larger_1Dhw = F.interpolate(map_1Dhw, size=(6, 6), mode="bicubic", align_corners=False)
    rows_1LD = larger_1Dhw.permute(0, 2, 3, 1).reshape(1, 36, 128)
    positions_1TD = torch.cat([state["pos_embed"][:, :1], rows_1LD], dim=1)
    with torch.no_grad():
        found_NTD = load_backbone(files[name], img_size=48).forward_features(images_NCHW)
        expected_NTD = tokens(state, images_NCHW, heads=2, positions_1TD=positions_1TD)
    torch.testing.assert_close(found_NTD, expected_NTD, atol=1e-5, rtol=0)
    info = load_checkpoint(files[name]).described_at(48)
    assert info.positions == "4 x 4 to 6 x 6, bicubic, not antialiased"
    assert load_checkpoint(files[name]).described_at(32).positions == ""


def test_a_fine_tuned_file_gives_timms_logits(files: dict[str, Path], images_NCHW: Tensor) -> None:
    reference = small_vit(num_classes=5, pool="avg").eval()
    reference.load_state_dict(random_state(reference))
    found = load_classifier(files["mae-fine-tuned"], num_classes=5)
    with torch.no_grad():
        torch.testing.assert_close(found(images_NCHW), reference(images_NCHW), atol=1e-5, rtol=0)


@pytest.mark.parametrize("img_size", [32, 48, 16])
def test_a_timm_file_gives_timms_tokens_at_any_size(files: dict[str, Path], img_size: int) -> None:
    state = random_state(small_vit(num_classes=5))
    reference = SMALL.build(num_classes=5).eval()
    reference.set_input_size(img_size)
    reference.load_state_dict(checkpoint_filter_fn(state, reference))
    images_NCHW = torch.randn(2, 3, img_size, img_size)
    found = load_backbone(files["timm"], img_size=img_size)
    with torch.no_grad():
        torch.testing.assert_close(
            found.forward_features(images_NCHW),
            reference.forward_features(images_NCHW),
            atol=1e-5,
            rtol=0,
        )


def test_registers_without_a_class_token_give_timms_tokens_and_logits(
    files: dict[str, Path], images_NCHW: Tensor
) -> None:
    reference = registers_vit().eval()
    reference.load_state_dict(random_state(reference))
    with torch.no_grad():
        # timm's last norm is behind the pooling; ours is always on the tokens.
        expected_NTD = reference.fc_norm(reference.forward_features(images_NCHW))
        found_NTD = load_backbone(files["timm-registers"]).forward_features(images_NCHW)
        logits = load_classifier(files["timm-registers"])(images_NCHW)
        torch.testing.assert_close(found_NTD, expected_NTD, atol=1e-5, rtol=0)
        torch.testing.assert_close(logits, reference(images_NCHW), atol=1e-5, rtol=0)


def test_options_tell_the_micl_authors_file_from_maes(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for beside, expected in (({}, "mae"), ({"optimizer": {}}, "micl"), ({"epoch": 3}, "timm")):
        torch.save({"model": mae_encoder(), **beside}, path)
        assert recognised_as(read_safely(path)) == [expected]
    # Learned positions are neither's.
    torch.save({"model": random_state(small_vit())}, path)
    assert recognised_as(read_safely(path)) == ["timm"]


def test_a_published_huge_vit_has_its_sixteen_heads() -> None:
    with torch.device("meta"):
        state = timm.create_model("vit_huge_patch14_224", num_classes=0).state_dict()
    found = infer_arch(state)
    assert (found.num_heads, found.depth, found.img_size) == (16, 32, 224)


def test_a_file_that_fits_two_formats_asks_for_one(files: dict[str, Path], tmp_path: Path) -> None:
    content = read_safely(files["micl_bench"]) | read_safely(files["micl"]) | {"num_classes": 0}
    path = tmp_path / "both.pth"
    torch.save({**content, "model": mae_encoder()}, path)
    with pytest.raises(
        InputError, match=r"several formats: micl, micl_bench; choose with --format"
    ):
        load_checkpoint(path)
    assert load_checkpoint(path, layout="micl_bench").info.format == "micl_bench"
    for layout in ("micl", "timm"):
        with pytest.raises(InputError, match=f"of the layout micl_bench, not of {layout}"):
            load_checkpoint(path, layout=layout)


def test_numbers_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    state = random_state(small_vit())
    state["blocks.1.attn.qkv.bias"][3] = float("nan")
    state["norm.weight"][0] = float("inf")
    path = tmp_path / "broken.pth"
    torch.save(state, path)
    with pytest.raises(InputError, match=r"NaN or infinity in .*qkv\.bias, norm\.weight"):
        load_checkpoint(path)


def test_half_precision_is_read_as_single(tmp_path: Path, images_NCHW: Tensor) -> None:
    state = random_state(small_vit())
    halves = {name: value.bfloat16() for name, value in state.items()}
    torch.save(halves, tmp_path / "half.pth")
    torch.save({name: value.float() for name, value in halves.items()}, tmp_path / "single.pth")
    loaded = load_checkpoint(tmp_path / "half.pth")
    assert {fate.reason for fate in loaded.content.fates} == {"bfloat16 read as float32"}
    single = load_backbone(tmp_path / "single.pth")
    assert torch.equal(loaded.backbone()(images_NCHW), single(images_NCHW))


def test_averaged_weights_are_taken_unless_the_branch_is_told(tmp_path: Path) -> None:
    path = tmp_path / "timm.pth.tar"
    base, ema = random_state(small_vit(), 1), random_state(small_vit(), 2)
    torch.save({"state_dict": base, "state_dict_ema": ema}, path)
    for branch, expected in ((None, ema), ("ema", ema), ("base", base)):
        loaded = load_checkpoint(path, branch=branch)
        assert torch.equal(loaded.content.state["norm.bias"], expected["norm.bias"])
        assert loaded.content.branch == (branch or "ema")
        assert loaded.content.fates[-1].reason == "another network of the file, 30 tensors"
    with pytest.raises(InputError, match="no branch 'teacher'; it has base, ema"):
        load_checkpoint(path, branch="teacher")


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema_state_dict"])
def test_averaged_weights_are_taken_under_their_wrappers_names(tmp_path: Path, key: str) -> None:
    """As timm's own reading: prefixes first, then the choice."""
    path = tmp_path / "timm.pth.tar"
    base, ema = random_state(small_vit(), 1), random_state(small_vit(), 2)
    prefixed = {f"module.{name}": value for name, value in ema.items()}
    for averaged in (prefixed, {**prefixed, "n_averaged": torch.tensor(3)}, {"module": ema}):
        torch.save({"state_dict": base, key: averaged, "arch": "own"}, path)
        for branch, expected in ((None, ema), ("ema", ema), ("base", base)):
            content = load_checkpoint(path, branch=branch).content
            assert torch.equal(content.state["norm.bias"], expected["norm.bias"])
            assert content.branch == (branch or "ema")
    if key == "ema_state_dict":
        return
    torch.save({"state_dict": base, key: prefixed}, path)
    theirs = timm.models.load_state_dict(str(path))
    ours = load_checkpoint(path).content.state
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())


def test_averaged_weights_of_unknown_names_are_no_reason_to_take_others(tmp_path: Path) -> None:
    path = tmp_path / "timm.pth.tar"
    base = random_state(small_vit())
    averaged = {f"shadow.{name}": value for name, value in base.items()}
    torch.save({"state_dict": base, "state_dict_ema": averaged}, path)
    with pytest.raises(InputError, match=r"under 'state_dict_ema' .* --branch base"):
        load_checkpoint(path)
    assert load_checkpoint(path, branch="base").content.branch == ""
    torch.save({"state_dict": base, "state_dict_ema": None, "model_ema": {}}, path)
    assert load_checkpoint(path).content.branch == ""


def test_mmengine_keeps_its_averages_where_everybody_reads(tmp_path: Path) -> None:
    """By its own hook, which swaps the two tables as it saves."""
    pytest.importorskip("mmengine")
    from mmengine.hooks import EMAHook
    from mmengine.model import ExponentialMovingAverage

    path, model = tmp_path / "epoch_1.pth", small_vit()
    base, ema = random_state(model, 1), random_state(model, 2)
    model.load_state_dict(base)
    hook = EMAHook()
    hook.ema_model = ExponentialMovingAverage(model)
    hook.ema_model.module.load_state_dict(ema)
    content = {"meta": {}, "message_hub": {}, "state_dict": dict(base)}
    hook.before_save_checkpoint(None, content)
    torch.save(content, path)
    for branch, expected in ((None, ema), ("ema", ema), ("base", base)):
        found = load_checkpoint(path, branch=branch, layout="timm").content
        assert torch.equal(found.state["norm.bias"], expected["norm.bias"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_what_wrappers_put_before_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    path, state = tmp_path / "wrapped.ckpt", random_state(small_vit(num_classes=5))
    wrapped = {prefix + name: value for name, value in state.items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, path)
    assert recognised_as(read_safely(path)) == ["timm"]
    content = load_checkpoint(path).content
    assert content.state.keys() == state.keys()
    assert [(fate.name, fate.kind) for fate in content.fates] == [(n, "renamed") for n in wrapped]
    torch.save({"state_dict": {**wrapped, "norm.bias": state["norm.bias"]}}, path)
    with pytest.raises(InputError, match=r"two tensors of the file are both norm\.bias"):
        load_checkpoint(path)


def test_generators_of_random_numbers_lie_beside_the_network(tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    names = ("rng_state", "rng_states", "torch_rng_state", "cuda_rng_state", "cuda_rng_state_all",
             "cuda_rng_states", "numpy_rng_state", "random_state")  # fmt: skip
    states = {name: torch.get_rng_state() for name in names}
    torch.save({"model": random_state(small_vit()), **states}, path)
    fates = {fate.name: fate for fate in load_checkpoint(path).content.fates}
    assert {fates[name].reason for name in names} == {"state of training, 1 tensor"}


def test_a_fine_tuned_file_with_averaged_weights_keeps_its_own(tmp_path: Path) -> None:
    path, model = tmp_path / "checkpoint.pth", small_vit(num_classes=5, pool="avg")
    base, ema = random_state(model, 1), random_state(model, 2)
    args = Namespace(nb_classes=5, global_pool=True)
    torch.save({"model": base, "model_ema": ema, "optimizer": {}, "args": args}, path)
    assert recognised_as(read_safely(path)) == ["mae"]
    for branch, expected in ((None, base), ("base", base), ("ema", ema)):
        content = load_checkpoint(path, branch=branch).content
        assert torch.equal(content.state["head.bias"], expected["head.bias"])
        assert content.branch == (branch or "base")


@pytest.mark.parametrize("layout", ["mae", "micl"])
def test_an_encoder_in_a_flat_file_is_read_by_the_layout_that_is_given(
    tmp_path: Path, layout: str
) -> None:
    path = tmp_path / "encoder.safetensors"
    save_file(mae_encoder(), path)
    content = load_checkpoint(path, layout=layout).content
    assert str(content.positions) == "bicubic, not antialiased"
    assert content.state.keys() == mae_encoder().keys()


@pytest.mark.parametrize("name", ["timm", "mae-published"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.bool])
def test_weights_of_other_kinds_of_number_are_refused_by_name(
    files: dict[str, Path], tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    content, layout = read_safely(files[name]), name.partition("-")[0]
    network = _network(content)
    network["blocks.1.mlp.fc1.weight"] = network["blocks.1.mlp.fc1.weight"].to(dtype)
    torch.save(content, tmp_path / "odd.pth")
    stored = str(dtype).removeprefix("torch.")
    with pytest.raises(InputError, match=rf"blocks\.1\.mlp\.fc1\.weight holds {stored}; "):
        load_checkpoint(tmp_path / "odd.pth", layout=layout)


def test_a_branch_of_one_network_is_refused(files: dict[str, Path]) -> None:
    for name in ("micl_bench", "micl", "mae-published"):
        with pytest.raises(InputError, match="one network"):
            load_checkpoint(files[name], branch="teacher")


def test_inputs_that_are_not_square_are_refused(tmp_path: Path) -> None:
    state = random_state(small_vit())
    state["pos_embed"] = torch.zeros(1, 1 + 4 * 5, 128)
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(InputError, match="21 positions with 1 prefix tokens are of no square"):
        load_checkpoint(tmp_path / "wide.pth")


def test_a_told_architecture_brings_heads_and_must_fit(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="width is 128, not the 768"):
        load_checkpoint(files["timm"], arch="vit_base_patch16_224")
    with pytest.raises(InputError, match="no plain ViT is called 'vit_nothing'"):
        load_checkpoint(files["timm"], arch="vit_nothing")
    with pytest.raises(InputError, match="tensors of 2 blocks, not of 12"):
        load_checkpoint(files["timm"], arch="vit_tiny_patch16_224")


@pytest.mark.parametrize(
    "change",
    [
        {"pos_embed": torch.tensor(1.0)},
        {"pos_embed": None},
        {"patch_embed.proj.weight": torch.zeros(3, 3)},
        {"blocks.0.mlp.fc1.weight": torch.zeros(0)},
        {"blocks.x.norm1.weight": torch.zeros(128)},
        {"blocks.1000000000.norm1.weight": torch.zeros(128)},
        {3: torch.zeros(128)},
    ],
)
def test_misshapen_files_are_bad_input_not_a_defect(change: dict[Any, Any], tmp_path: Path) -> None:
    for content in ({**mae_encoder(), **change}, {"model": {**mae_encoder(), **change}}):
        torch.save(content, tmp_path / "x.pth")
        for layout in (None, "mae", "timm"):
            with pytest.raises(InputError):
                load_checkpoint(tmp_path / "x.pth", layout=layout)


@pytest.mark.parametrize("name", ["timm", "timm-registers", "mae-fine-tuned"])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_new_head_leaves_the_checkpoint_as_it_was(
    files: dict[str, Path], name: str, pool: Any
) -> None:
    loaded = load_checkpoint(files[name])
    before = {key: value.clone() for key, value in loaded.content.state.items()}
    model = loaded.with_new_head(num_classes=3, img_size=48, drop_path=0.1, pool=pool, seed=0)
    assert model(torch.randn(2, 3, 48, 48)).shape == (2, 3)
    assert [block.drop_path1.drop_prob for block in model.blocks[1:]] == [pytest.approx(0.1)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in loaded.content.state.items())


def test_what_training_began_with_is_kept_for_what_comes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "timm.pth"
    torch.save(random_state(small_vit()), path)
    content = load_checkpoint(path).content
    rule = PositionRule(antialias=False, offset=0.1)
    start = dataclasses.replace(
        load_checkpoint(path),
        content=dataclasses.replace(content, positions=rule, mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    target = tmp_path / "tuned.pt"
    save_checkpoint(target, start.backbone(), SMALL, method="x", provenance={}, start=start)
    after = load_checkpoint(target).content
    assert (after.positions, after.mean, after.std) == (rule, (0.5,) * 3, (0.25,) * 3)
