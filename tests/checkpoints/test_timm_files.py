"""Files with timm's names: features, averaged weights, wrappers, precision, sizes."""

from pathlib import Path

import pytest
import timm
import torch
from layouts import SMALL, random_state, registers_vit, small_vit
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from micl_bench.checkpoints import (
    load_backbone,
    load_checkpoint,
    load_classifier,
)
from micl_bench.checkpoints._infer import infer_arch
from micl_bench.checkpoints._read_file import recognised_as
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.read import read_safely


@pytest.mark.parametrize("img_size", [32, 48, 16])
@pytest.mark.parametrize("name", ["timm", "timm-safetensors"])
@torch.no_grad()
def test_a_timm_file_gives_timms_tokens_and_logits_at_any_size(
    files: dict[str, Path], name: str, img_size: int
) -> None:
    classes = 5 if name == "timm" else 0
    state = random_state(small_vit(num_classes=classes))
    reference = SMALL.build(num_classes=classes).eval()
    reference.set_input_size(img_size)
    reference.load_state_dict(checkpoint_filter_fn(state, reference))
    images_NCHW = torch.randn(2, 3, img_size, img_size)
    found = load_backbone(files[name], img_size=img_size).forward_features(images_NCHW)
    expected = reference.forward_features(images_NCHW)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    if classes and img_size == 32:
        logits = load_classifier(files[name], num_classes=classes)(images_NCHW)
        torch.testing.assert_close(logits, reference(images_NCHW), atol=1e-5, rtol=0)


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


def test_a_published_huge_vit_has_its_sixteen_heads() -> None:
    with torch.device("meta"):
        state = timm.create_model("vit_huge_patch14_224", num_classes=0).state_dict()
    found = infer_arch(state)
    assert (found.num_heads, found.depth, found.img_size) == (16, 32, 224)


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


def test_averaged_weights_are_taken_unless_the_branch_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "timm.pth.tar"
    base, ema = random_state(small_vit(), 1), random_state(small_vit(), 2)
    torch.save({"state_dict": base, "state_dict_ema": ema}, path)
    for branch, expected in ((None, ema), ("ema", ema), ("base", base)):
        loaded = load_checkpoint(path, branch=branch)
        assert torch.equal(loaded.content.state["norm.bias"], expected["norm.bias"])
        assert loaded.content.branch == (branch or "ema")
        assert loaded.content.fates[-1].reason == "another network of the file, 30 tensors"
    with pytest.raises(InputError, match="no branch 'teacher'; it holds ema, base"):
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


def test_inputs_that_are_not_square_are_refused(tmp_path: Path) -> None:
    state = random_state(small_vit())
    state["pos_embed"] = torch.zeros(1, 1 + 4 * 5, 128)
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(InputError, match="21 positions with 1 prefix tokens are of no square"):
        load_checkpoint(tmp_path / "wide.pth")


def test_a_stated_architecture_brings_heads_and_must_fit(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="width is 128, not the 768"):
        load_checkpoint(files["timm"], arch="vit_base_patch16_224")
    with pytest.raises(InputError, match="no plain ViT is called 'vit_nothing'"):
        load_checkpoint(files["timm"], arch="vit_nothing")
    with pytest.raises(InputError, match="tensors of 2 blocks, not of 12"):
        load_checkpoint(files["timm"], arch="vit_tiny_patch16_224")
