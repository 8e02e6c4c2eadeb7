"""The particulars of the files of one method or library."""

import json
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from direct import tokens
from layouts import mae_encoder, random_state, small_vit
from layouts_foreign import FOREIGN, beit_or_v2
from layouts_libraries import hf_model, solo_learn
from layouts_parts import plain_vit, prefixed
from safetensors.torch import save_file
from torch import Tensor

from micl_bench.backbone import timm_vit
from micl_bench.checkpoints import (
    load_backbone,
    load_checkpoint,
    load_classifier,
)
from micl_bench.checkpoints._read_file import recognised_as
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.read import read_safely


def _content_of(name: str, folder: Path) -> dict[str, Any]:
    return read_safely(FOREIGN[name](folder))


def test_options_tell_the_micl_authors_file_from_maes(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for beside, expected in (({}, "mae"), ({"optimizer": {}}, "micl"), ({"epoch": 3}, "timm")):
        torch.save({"model": mae_encoder(), **beside}, path)
        assert recognised_as(read_safely(path)) == [expected]
    # Learned positions are neither's.
    torch.save({"model": random_state(small_vit())}, path)
    assert recognised_as(read_safely(path)) == ["timm"]


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


def test_averaged_weights_beside_a_beit_are_its_other_branch(tmp_path: Path) -> None:
    """What BEiT's `utils.save_model` writes with mixed precision and `--model_ema`."""
    path = tmp_path / "checkpoint-99.pth"
    content = _content_of("beit-fine_tuned", tmp_path)
    averaged = {name: value + 1 for name, value in content["model"].items()}
    torch.save({**content, "model_ema": averaged}, path)
    assert read_safely(path).keys() == {
        "model", "optimizer", "epoch", "scaler", "args", "model_ema"
    }  # fmt: skip
    assert recognised_as(read_safely(path)) == ["beit"]
    for branch, plus in ((None, 0), ("base", 0), ("ema", 1)):
        found = load_checkpoint(path, branch=branch).content
        assert torch.equal(found.state["head.bias"], content["model"]["head.bias"] + plus)
        assert found.branch == (branch or "base")
    beside = [fate.name for fate in load_checkpoint(path).content.fates if fate.kind == "left out"]
    assert {"model_ema", "optimizer"} <= set(beside)


@pytest.mark.parametrize(
    ("name", "options", "arch", "method", "mean"),
    [
        ("beit-data2vec", None, None, "data2vec", 0.485),
        # The run's own options go before its recipe.
        ("beit-data2vec", Namespace(imagenet_default_mean_and_std=False), None, "data2vec", 0.5),
        ("base", None, "beit_base_patch16_224", "BEiT", 0.5),
        ("base", None, "beitv2_base_patch16_224", "BEiT v2", 0.485),
    ],
)
def test_a_beits_pixels_are_those_of_its_options_its_content_or_its_name(
    name: str, options: Any, arch: str | None, method: str, mean: float, tmp_path: Path
) -> None:
    content: dict[str, Any] = {"model": timm_vit("beit_base_patch16_224").state_dict()}
    if name != "base":
        content = _content_of(name, tmp_path)
    convert = plugins.find("checkpoints", "beit").convert
    found = convert({**content, "args": options}, arch=arch, branch=None)
    assert (found.method, found.mean[0]) == (method, mean)
    assert arch in (None, found.arch.name)


def test_a_fine_tuned_beit_that_does_not_tell_its_pixels_is_no_guess(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="beitv2_base_patch16_224"):
        load_checkpoint(beit_or_v2(tmp_path))
    content = {"model": timm_vit("beit_base_patch16_224").state_dict()}
    with pytest.raises(InputError, match="width is 768, not the 1024"):
        plugins.find("checkpoints", "beit").convert(
            content, arch="beit_large_patch16_224", branch=None
        )


def test_dinov3_on_satellite_images_reads_other_pixels() -> None:
    dinov3 = plugins.find("checkpoints", "dinov3")
    model = timm_vit("vit_large_patch16_dinov3", num_classes=0)
    norm = {f"local_cls_norm.{part}": torch.zeros(1024) for part in ("weight", "bias")}
    state = {
        name.replace("gamma_", "ls").replace("reg_token", "storage_tokens"): value
        for name, value in model.state_dict().items()
    }
    state = {
        f"{name}.gamma" if name[-3:] in ("ls1", "ls2") else name: value
        for name, value in state.items()
    }
    web = dinov3.convert(state, arch=None, branch=None)
    satellite = dinov3.convert(state | norm, arch=None, branch=None)
    assert (web.mean[0], satellite.mean[0]) == (0.485, 0.43)
    assert web.arch.timm_name == satellite.arch.timm_name == "vit_large_patch16_dinov3"


def test_the_gated_giant_of_dinov2_is_timms() -> None:
    dinov2 = plugins.find("checkpoints", "dinov2")
    base = timm_vit("vit_giant_patch14_dinov2", num_classes=0, img_size=224)
    state = {
        name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value
        for name, value in base.state_dict().items()
    }
    state["mask_token"] = torch.zeros(1, 1536, device="meta")
    converted = dinov2.convert(state, arch=None, branch=None)
    assert converted.arch.timm_name == "vit_giant_patch14_dinov2"
    assert converted.arch.img_size == 224
    assert converted.state.keys() == base.state_dict().keys()


def test_a_published_backbone_alone_is_read_by_the_layout_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "dino_deitsmall16_pretrain.pth"
    torch.save(plain_vit(), path)
    assert recognised_as(read_safely(path)) == ["timm"]
    for layout in ("dino", "ibot"):
        assert load_checkpoint(path, layout=layout).content.positions.offset == 0.1


def test_a_small_moco_v3_keeps_its_heads_whatever_the_name(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"MoCo v3's ViT-S has 12 heads, .* has 6; leave --arch"):
        load_checkpoint(files["moco_v3-small"], arch="vit_small_patch8_224")
    assert load_checkpoint(files["moco_v3-small"]).arch.num_heads == 12


def test_a_model_type_that_is_not_read_is_named() -> None:
    module = plugins.find("checkpoints", "huggingface")
    content: dict[str, Any] = {"config": {"model_type": "bert"}, "model": {"a": torch.zeros(1)}}
    assert module.recognise(content)
    with pytest.raises(InputError, match="'bert'; read are vit, vit_mae"):
        module.convert(content, arch=None, branch=None)


def test_pixels_are_those_that_transformers_prepares(tmp_path: Path) -> None:
    from transformers import ViTImageProcessor

    path = FOREIGN["huggingface-vit"](tmp_path)
    image_CHW = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    for options in (
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_normalize": False},
    ):
        processor = ViTImageProcessor(do_resize=False, **options)
        processor.save_pretrained(path)
        expected = processor(image_CHW, return_tensors="pt")["pixel_values"]
        found = load_checkpoint(path).normalise(image_CHW[None])
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_mean": [0.5], "image_std": [0.5] * 3}, "three numbers"),
        ({"image_mean": "010", "image_std": "111"}, "three numbers"),
        ({"image_mean": "half"}, "three numbers"),
        ({"image_mean": [0.5] * 3, "image_std": None}, "three numbers"),
        (
            {"image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]},
            r"preprocessor_config\.json: \$\.image_mean\[0\] is 123\.7; needed: a number from 0 to 1",
        ),
        ({"image_mean": [0.5] * 3, "image_std": [0.5, 0.0, 0.5]}, r"\$\.image_std\[1\] is 0\.0"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5, float("nan"), 0.5]}, "not valid JSON"),
        ({"image_mean": [float("inf")] * 3, "image_std": [0.5] * 3}, "not valid JSON"),
        ({"rescale_factor": 1 / 127.5}, "times 1/255"),
        ({"rescale_factor": None}, "times 1/255"),
        ({"do_rescale": False}, "times 1/255"),
    ],
)
def test_pixels_that_cannot_be_prepared_so_are_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    path = FOREIGN["huggingface-vit"](tmp_path)
    (path / "preprocessor_config.json").write_text(json.dumps(options))
    with pytest.raises(InputError, match=words):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_attention_heads": "4"}, r"\$\.num_attention_heads is '4'; needed: a whole number"),
        (
            {"num_attention_heads": 0},
            r"\$\.num_attention_heads is 0; needed: a whole number from 1",
        ),
        ({"layer_norm_eps": 2}, r"\$\.layer_norm_eps is 2; needed: a number between 0 and 1"),
        ({"layer_norm_eps": None}, r"\$ has no layer_norm_eps"),
        ({"use_swiglu_ffn": "yes"}, r"\$\.use_swiglu_ffn is 'yes'; needed: true or false"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
    ],
)
def test_a_fault_in_a_configuration_is_named_with_its_path(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    file = FOREIGN["huggingface-vit"](tmp_path) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **options}))
    with pytest.raises(InputError, match=rf"config\.json: {words}"):
        load_checkpoint(file.parent)


def test_gated_mlps_of_another_size_are_refused_in_a_line(tmp_path: Path) -> None:
    hf_model("Dinov2Model", use_swiglu_ffn=True).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="use_swiglu_ffn for width 128"):
        load_checkpoint(tmp_path)


def test_a_folder_is_known_by_what_is_read_of_it(files: dict[str, Path], tmp_path: Path) -> None:
    snapshot = tmp_path / "models--facebook--vit-mae-base" / "snapshots" / ("0123456789" * 4)
    shutil.copytree(files["huggingface-vit"], snapshot)
    loaded = load_checkpoint(snapshot)
    assert loaded.method == "facebook/vit-mae-base"
    (snapshot / "README.md").write_text("words")
    (snapshot / "training_args.json").write_text("{}")
    assert load_checkpoint(snapshot).info.digest == loaded.info.digest
    pixels = {"image_mean": [0.25] * 3, "image_std": [0.5] * 3}
    (snapshot / "preprocessor_config.json").write_text(json.dumps(pixels))
    assert load_checkpoint(snapshot).info.digest != loaded.info.digest
    assert "heads" not in loaded.content.guesses


def test_a_backbone_without_its_final_norm_is_refused(tmp_path: Path) -> None:
    state = prefixed("backbone.", plain_vit())
    for part in ("weight", "bias"):
        del state[f"backbone.norm.{part}"]
    path = tmp_path / "segmentor.pth"
    torch.save({"state_dict": state, "meta": {}}, path)
    with pytest.raises(InputError, match=r"missing norm\.bias"):
        load_checkpoint(path)


def test_a_file_of_solo_learn_that_does_not_say_its_method_goes_by_its_name(tmp_path: Path) -> None:
    loaded = load_checkpoint(solo_learn(tmp_path, method=None))
    assert loaded.method == "simclr-ep=399"
    assert {"heads", "pixels"} <= set(loaded.content.guesses)


def test_solo_learns_options_may_be_omegaconfs(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    options = omegaconf.OmegaConf.create({"method": "mocov3", "backbone": {"name": "vit_base"}})
    path = solo_learn(tmp_path, hyper_parameters={"cfg": options})
    assert load_checkpoint(path).method == "MoCo v3"
    assert load_checkpoint(solo_learn(tmp_path, hyper_parameters=options)).method == "MoCo v3"
