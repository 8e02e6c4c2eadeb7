"""Formats of other code bases: recognised by one, every tensor accounted for, branches, refusals."""

import json
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts_foreign import FOREIGN, GRID, beit_untold, hf_model, plain_vit, prefixed
from torch import Tensor

from micl_bench.backbone import timm_vit
from micl_bench.checkpoints import load_checkpoint
from micl_bench.checkpoints._load import recognised_as
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.read import read_safely


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of every layout, written once. Read only."""
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in sorted(FOREIGN.items())}


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_each_file_is_claimed_by_its_format_alone(files: dict[str, Path], name: str) -> None:
    assert recognised_as(read_safely(files[name])) == [name.partition("-")[0]]


def _content_of(name: str, folder: Path) -> dict[str, Any]:
    return read_safely(FOREIGN[name](folder))


def _tensors(content: Any, name: str = "") -> list[tuple[str, str]]:
    """(entry of the file, name in its table) of every tensor in it."""
    found = []
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        top = name or str(key)
        if isinstance(value, Tensor):
            found.append((top, str(key)))
        elif isinstance(value, (dict, list)):
            found += [(top, inner) for _, inner in _tensors(value, top)]
    return found


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_every_tensor_has_a_fate(files: dict[str, Path], name: str) -> None:
    content = read_safely(files[name])
    loaded = load_checkpoint(files[name])
    fates = {fate.name: fate for fate in loaded.content.fates}
    for entry, tensor in _tensors(content):
        assert tensor in fates or entry in fates, tensor
    assert len(fates) == len(loaded.content.fates)
    for fate in fates.values():
        assert (fate.kind == "left out") == (not fate.target)
        assert fate.reason or fate.kind != "left out"
    targets = {part for fate in fates.values() for part in fate.target.split(", ") if fate.target}
    assert targets == loaded.content.state.keys()


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_an_unknown_tensor_is_refused_by_name(files: dict[str, Path], name: str) -> None:
    content = dict(read_safely(files[name]))
    module = plugins.find("checkpoints", name.partition("-")[0])
    branch = module.convert(content, arch=None, branch=None).branch
    for key in (branch, "state_dict", "model", "teacher"):
        if isinstance(content.get(key), dict):
            content[key] = {**content[key], "blocks.0.surprise.weight": torch.zeros(1)}
            break
    else:
        content["blocks.0.surprise.weight"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"blocks\.0\.surprise\.weight"):
        module.convert(content, arch=None, branch=None)


@pytest.mark.parametrize(
    ("name", "branches"),
    [
        ("dino", ["teacher", "student"]),
        ("ibot", ["teacher", "student"]),
        ("moco_v3", ["base", "momentum"]),
        ("msn", ["target_encoder", "encoder"]),
        ("ijepa", ["target_encoder", "encoder"]),
        ("lightly", ["backbone", "student_backbone"]),
        ("dinov2-teacher", ["teacher"]),
    ],
)
def test_branches_differ_and_the_first_is_the_default(
    files: dict[str, Path], name: str, branches: list[str]
) -> None:
    default = load_checkpoint(files[name]).content
    assert default.branch == branches[0]
    weights = []
    for branch in branches:
        converted = load_checkpoint(files[name], branch=branch).content
        assert converted.branch == branch
        weights.append(converted.state["blocks.1.mlp.fc1.weight"])
    assert torch.equal(default.state["blocks.1.mlp.fc1.weight"], weights[0])
    assert len(weights) == 1 or not torch.equal(*weights)
    with pytest.raises(InputError, match=f"no branch 'nothing'.*{branches[-1]}"):
        load_checkpoint(files[name], branch="nothing")


@pytest.mark.parametrize("name", ["dinov2", "dino-teacher", "beit", "simmim", "openmmlab"])
def test_a_file_with_one_network_has_no_branches(files: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match="no branch 'student'"):
        load_checkpoint(files[name], branch="student")


@pytest.mark.parametrize(
    ("name", "method", "pool", "positions"),
    [
        ("dino", "DINO", "token", "bicubic, not antialiased, offset 0.1"),
        ("ibot", "iBOT", "token", "bicubic, not antialiased, offset 0.1"),
        ("moco_v3", "MoCo v3", "token", "sin-cos computed anew"),
        ("msn", "MSN", "token", "bicubic, not antialiased"),
        ("ijepa", "I-JEPA", "avg", "bicubic, not antialiased"),
        ("dinov2", "DINOv2", "token", "bicubic, not antialiased, offset 0.1"),
        ("dinov2-registers", "DINOv2 with registers", "token", "bicubic, antialiased"),
        ("dinov3", "DINOv3", "token", None),
        ("simmim", "SimMIM", "avg", None),
        ("beit", "BEiT", "avg", None),
        ("beit-data2vec", "data2vec", "avg", None),
        ("beit-v2", "BEiT v2", "avg", None),
        ("huggingface-vit_mae", "MAE", "token", "bicubic, not antialiased"),
        ("huggingface-dinov2_registers", "DINOv2 with registers", "token", "bicubic, antialiased"),
        ("openmmlab-avg", "mae-finetuned", "avg", "bicubic, not antialiased"),
        ("lightly-alone", "backbone", "token", "bicubic, antialiased"),
    ],
)
def test_what_a_checkpoint_says_of_its_method(
    files: dict[str, Path], name: str, method: str, pool: str, positions: str | None
) -> None:
    loaded = load_checkpoint(files[name])
    assert (loaded.method, loaded.content.pool) == (method, pool)
    if positions is not None:
        assert str(loaded.content.positions) == positions


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("dino", 0.485),
        ("beit", 0.5),
        ("beit-fine_tuned", 0.5),
        ("beit-data2vec", 0.485),
        ("beit-v2", 0.485),
        ("simmim-fine_tuned", 0.485),
        ("huggingface-vit", 0.5),
        ("huggingface-vit_mae", 0.485),
        ("openmmlab", 0.5),
        ("openmmlab-avg", 0.485),
    ],
)
def test_pixels_are_those_of_the_method(files: dict[str, Path], name: str, mean: float) -> None:
    assert load_checkpoint(files[name]).content.mean[0] == pytest.approx(mean, abs=1e-6)


def test_a_fine_tuned_beit_that_does_not_tell_its_pixels_is_no_guess(tmp_path: Path) -> None:
    path = beit_untold(tmp_path)
    with pytest.raises(InputError, match="beitv2_base_patch16_224"):
        load_checkpoint(path)
    beit = plugins.find("checkpoints", "beit")
    base = timm_vit("beit_base_patch16_224")
    content = {"model": base.state_dict()}
    for arch, mean in (("beit_base_patch16_224", 0.5), ("beitv2_base_patch16_224", 0.485)):
        converted = beit.convert(content, arch=arch, branch=None)
        assert (converted.mean[0], converted.arch.name) == (mean, arch)
    with pytest.raises(InputError, match="width is 768, not the 1024"):
        beit.convert(content, arch="beit_large_patch16_224", branch=None)


def test_a_data2vec_reads_imagenets_pixels_under_any_name(tmp_path: Path) -> None:
    beit, content = plugins.find("checkpoints", "beit"), _content_of("beit-data2vec", tmp_path)
    sized = beit.convert(content, arch=None, branch=None)
    assert (sized.method, sized.mean[0]) == ("data2vec", 0.485)
    # The run's own options tell more than its recipe.
    told = {**content, "args": Namespace(imagenet_default_mean_and_std=False)}
    assert beit.convert(told, arch=None, branch=None).mean[0] == 0.5


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


@pytest.mark.parametrize("layout", sorted({name.partition("-")[0] for name in FOREIGN}))
def test_a_format_that_does_not_fit_is_refused_in_a_line(
    files: dict[str, Path], layout: str
) -> None:
    fits = {"dino": {"ibot"}, "ibot": {"dino"}}.get(layout, set())
    convert = plugins.find("checkpoints", layout).convert
    for other in {name for name in FOREIGN if "-" not in name} - {layout, "dinov3"} - fits:
        with pytest.raises(InputError):
            convert(read_safely(files[other]), arch=None, branch=None)


def test_a_model_type_that_is_not_read_is_named() -> None:
    module = plugins.find("checkpoints", "huggingface")
    content: dict[str, Any] = {"config": {"model_type": "bert"}, "model": {"a": torch.zeros(1)}}
    assert module.recognise(content)
    with pytest.raises(InputError, match="'bert'; read are vit, vit_mae"):
        module.convert(content, arch=None, branch=None)


def test_a_preprocessors_mean_and_std_are_read(tmp_path: Path) -> None:
    path = FOREIGN["huggingface-vit"](tmp_path)
    told = path / "preprocessor_config.json"
    told.write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}))
    converted = load_checkpoint(path).content
    assert (converted.mean, converted.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    told.write_text(json.dumps({"image_mean": "half"}))
    with pytest.raises(InputError, match="three numbers"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]}, "three numbers"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5, 0.0, 0.5]}, "three numbers"),
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


def test_gated_mlps_of_another_size_are_refused_in_a_line(tmp_path: Path) -> None:
    hf_model("Dinov2Model", use_swiglu_ffn=True).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="use_swiglu_ffn for width 128"):
        load_checkpoint(tmp_path)


def test_a_backbone_without_its_final_norm_is_refused(tmp_path: Path) -> None:
    state = prefixed("backbone.", plain_vit())
    for part in ("weight", "bias"):
        del state[f"backbone.norm.{part}"]
    path = tmp_path / "segmentor.pth"
    torch.save({"state_dict": state, "meta": {}}, path)
    with pytest.raises(InputError, match=r"missing norm\.bias"):
        load_checkpoint(path)


def test_sizes_come_from_the_shapes(files: dict[str, Path]) -> None:
    for name in ("dino", "ijepa", "beit"):
        arch = load_checkpoint(files[name]).arch
        assert (arch.width, arch.depth, arch.num_heads) == (128, 2, 2)
        assert (arch.img_size, arch.patch_size) == (GRID * 8, 8)
    assert load_checkpoint(files["moco_v3-small"]).arch.num_heads == 12
    # What shapes do not tell, the folder's configuration does.
    told = load_checkpoint(files["huggingface-vit"]).arch
    assert (told.num_heads, told.norm_eps) == (4, 1e-12)


def test_a_small_moco_v3_keeps_its_heads_whatever_the_name(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"MoCo v3's ViT-S has 12 heads, .* has 6; leave --arch"):
        load_checkpoint(files["moco_v3-small"], arch="vit_small_patch8_224")
    assert load_checkpoint(files["moco_v3-small"]).arch.num_heads == 12


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
