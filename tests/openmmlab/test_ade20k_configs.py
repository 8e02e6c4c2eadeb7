"""The ADE20K configs: what they say, and two steps of each on tiny data in ADE20K's own format."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from openmmlab.tiny_runs import WIDTH, tiny
from PIL import Image
from support import REPOSITORY

from micl_bench.backbone import named_arch
from micl_bench.openmmlab import run
from micl_bench.openmmlab.configs import resolve
from micl_bench.runtime.errors import InputError

DOWNSTREAM = REPOSITORY / "downstream"
SIZES = ("s", "b", "l")
CONFIGS = (
    "ade20k_upernet_vit_s16",
    "ade20k_upernet_vit_b16",
    "ade20k_upernet_vit_l16",
    "ade20k_upernet_vit_s16_ms",
    "ade20k_upernet_vit_b16_ms",
    "ade20k_upernet_vit_l16_ms",
)
DEPTH = {"s": 12, "b": 12, "l": 24}

# Typed from the papers and released configs that the configs name, not from the configs: width of the
# heads, blocks, drop path, learning rate, layer decay.
TABLE = {
    "s": (384, [3, 5, 7, 11], 0.1, 3e-5, 0.9),
    "b": (768, [3, 5, 7, 11], 0.1, 1e-4, 0.65),
    "l": (1024, [7, 11, 15, 23], 0.2, 4e-5, 0.9),
}
ARCHS = {"s": "vit_small_patch16_224", "b": "vit_base_patch16_224", "l": "vit_large_patch16_224"}

# Sizes and lengths only.
SMALL = (
    "auto_scale_lr.base_batch_size=2",
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "model.data_preprocessor.size=(64, 64)",
    "model.backbone.img_size=64",
    f"model.decode_head.in_channels={[WIDTH] * 4}",
    "model.decode_head.channels=16",
    f"model.auxiliary_head.in_channels={WIDTH}",
    "model.auxiliary_head.channels=16",
    "model.test_cfg.crop_size=(64, 64)",
    "model.test_cfg.stride=(43, 43)",
    "train_dataloader.dataset.pipeline.2.scale=(256, 64)",
    "train_dataloader.dataset.pipeline.3.crop_size=(64, 64)",
)


def small(name: str) -> list[str]:
    """Images are more than the crop, so that windows slide."""
    several = name.endswith("_ms")
    sizes = "short_sides=[64, 80]" if several else "scale=(256, 96)"
    return [*SMALL, f"val_dataloader.dataset.pipeline.1.{sizes}"]


@pytest.fixture(scope="module")
def ade20k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs' names, sizes and labels as released: JPEG, 8-bit PNG, 0 for "other", 1 to 150."""
    root = tmp_path_factory.mktemp("ade20k") / "ADEChallengeData2016"
    random = np.random.default_rng(0)
    for split, short, number in (("training", "train", 4), ("validation", "val", 3)):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for index in range(1, number + 1):
            height, width = (72, 96) if index % 2 else (90, 70)
            labels = np.repeat([0, 1, 75, 150], height * width // 4).astype(np.uint8)
            colours = np.repeat(random.integers(0, 256, (4, 3)), height * width // 4, axis=0)
            noisy = colours + random.integers(-20, 20, colours.shape)
            image = noisy.clip(0, 255).astype(np.uint8).reshape(height, width, 3)
            name = f"ADE_{short}_{index:08d}"
            Image.fromarray(image).save(root / "images" / split / f"{name}.jpg", quality=95)
            mask = Image.fromarray(labels.reshape(height, width))
            mask.save(root / "annotations" / split / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As deep as each size, and narrow."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {size: tiny(folder / f"{size}.pt", depth=depth) for size, depth in DEPTH.items()}


def path_of(size: str, suffix: str = "") -> Path:
    return DOWNSTREAM / f"ade20k_upernet_vit_{size}16{suffix}.py"


def small_config(name: str, checkpoint: str, data: Path, work_dir: Path) -> Config:
    """For mmengine's own runner."""
    config = resolve(
        DOWNSTREAM / f"{name}.py", checkpoint=checkpoint, data=data, seed=0, overrides=small(name)
    )
    config.work_dir, config.experiment_name = str(work_dir), f"{name}-{work_dir.name}"
    config.train_dataloader.batch_size = 2
    return config


@pytest.mark.parametrize("size", SIZES)
def test_values_are_those_of_the_papers(size: str) -> None:
    channels, blocks, drop_path, rate, decay = TABLE[size]
    config = Config.fromfile(path_of(size))
    model, wrapper = config.model, config.optim_wrapper
    assert model.backbone.checkpoint == f"random:{ARCHS[size]}"
    assert named_arch(ARCHS[size]).width == channels
    assert model.decode_head.in_channels == [channels] * 4
    assert model.decode_head.channels == model.auxiliary_head.in_channels == channels
    assert model.backbone.out_blocks == blocks
    assert model.backbone.drop_path == drop_path
    assert model.backbone.final_norm is False
    assert wrapper.optimizer == {
        "type": "AdamW",
        "lr": rate,
        "betas": (0.9, 0.999),
        "weight_decay": 0.05,
    }
    assert wrapper.constructor == "MiCLViTConstructor"
    assert wrapper.paramwise_cfg == {"layer_decay": decay}


@pytest.mark.parametrize("size", SIZES)
def test_the_protocol_is_the_same_for_each_size(size: str) -> None:
    config = Config.fromfile(path_of(size))
    model, train, val = config.model, config.train_dataloader, config.val_dataloader
    assert model.type == "EncoderDecoder"
    assert (model.decode_head.type, model.auxiliary_head.type) == ("UPerHead", "FCNHead")
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 150
    assert model.decode_head.norm_cfg.type == model.auxiliary_head.norm_cfg.type == "SyncBN"
    assert model.auxiliary_head.loss_decode.loss_weight == 0.4
    assert (model.auxiliary_head.channels, model.auxiliary_head.in_index) == (256, 2)
    assert model.decode_head.pool_scales == (1, 2, 3, 6)
    assert model.test_cfg == {"mode": "slide", "crop_size": (512, 512), "stride": (341, 341)}
    assert model.backbone.img_size == 512
    assert config.auto_scale_lr == {"enable": False, "base_batch_size": 16}
    assert train.batch_size == 16
    assert train.dataset.type == val.dataset.type == "ADE20KDataset"
    assert train.dataset.reduce_zero_label
    assert val.dataset.reduce_zero_label
    resize, crop, flip = (dict(step) for step in train.dataset.pipeline[2:5])
    assert (resize["scale"], resize["ratio_range"]) == ((2048, 512), (0.5, 2.0))
    assert (crop["crop_size"], crop["cat_max_ratio"]) == ((512, 512), 0.75)
    assert flip["prob"] == 0.5
    assert val.dataset.pipeline[1] == {"type": "Resize", "scale": (2048, 512), "keep_ratio": True}
    assert (config.train_cfg.type, config.train_cfg.max_iters) == ("IterBasedTrainLoop", 160_000)


def test_the_rate_warms_up_and_falls_in_a_straight_line() -> None:
    config = Config.fromfile(path_of("b"))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    wrapper = OptimWrapper(optimizer)
    built = [
        PARAM_SCHEDULERS.build(dict(entry), default_args={"optimizer": wrapper})
        for entry in config.param_scheduler
    ]
    rates = []
    for _ in range(4000):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    # mmengine's end of a warm-up is its last step, its 1500th from 0.
    for step in (0, 700, 1499):
        assert rates[step] == pytest.approx(1e-4 * (1e-6 + (1 - 1e-6) * step / 1499), rel=1e-6)
    for step in (1600, 3999):
        assert rates[step] == pytest.approx(1e-4 * (1 - (step - 1500) / 158_500), rel=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_multi_scale_measures_the_same_training_at_the_scales_of_the_papers(size: str) -> None:
    single, multi = (Config.fromfile(path_of(size, suffix)).to_dict() for suffix in ("", "_ms"))
    _, variants = multi["val_dataloader"]["dataset"]["pipeline"]
    sides = [max(int(512 * ratio), 512) for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)]
    assert variants == {"type": "MultiScaleFlip", "short_sides": sides}
    assert multi["model"].pop("type") == "MultiScaleEncoderDecoder"
    assert single["model"].pop("type") == "EncoderDecoder"
    for content in (single, multi):
        content["val_dataloader"]["dataset"].pop("pipeline")
        content.pop("custom_imports")
    assert multi == single


def test_every_config_is_here_and_its_docstring_gives_the_command() -> None:
    assert {path.stem for path in DOWNSTREAM.glob("ade20k_*.py")} == set(CONFIGS)
    for name in CONFIGS:
        docstring = ast.get_docstring(ast.parse((DOWNSTREAM / f"{name}.py").read_text())) or ""
        assert f"--recipe {name} " in docstring


def test_a_name_that_would_change_nothing_is_refused(ade20k: Path) -> None:
    with pytest.raises(InputError, match="has no 'width'"):
        resolve(path_of("b"), checkpoint="", data=ade20k, seed=0, overrides=["width=384"])


@pytest.mark.long
@pytest.mark.parametrize("name", CONFIGS)
def test_it_runs(ade20k: Path, checkpoints: dict[str, str], tmp_path: Path, name: str) -> None:
    outcome = run(
        DOWNSTREAM / f"{name}.py",
        checkpoint=checkpoints["l" if "_l16" in name else "b"],
        data=ade20k,
        work_dir=tmp_path,
        overrides=small(name),
    )
    assert {"mIoU", "mAcc", "aAcc"} <= outcome.metrics.keys()
    assert outcome.data["val_dataloader"]["images"] == 3
    assert outcome.settings["steps"] == outcome.settings["batch"] == 2
    arrays = np.load(outcome.predictions)
    # "Other" is ignored, and class 1 of the files is the first.
    assert set(np.unique(arrays["truth_NHW"])) == {0, 74, 149, 255}
    assert arrays["predicted_NHW"].shape == arrays["truth_NHW"].shape


@pytest.mark.long
def test_its_other_ways_run(ade20k: Path, checkpoints: dict[str, str], tmp_path: Path) -> None:
    outcome = run(
        path_of("b"),
        checkpoint=checkpoints["b"],
        data=ade20k,
        work_dir=tmp_path,
        overrides=[
            *small("single"),
            "model.test_cfg.mode=whole",
            "model.backbone.final_norm=True",
            "model.backbone.out_blocks=[2, 5, 8, 11]",
            "optim_wrapper.type=Bf16OptimWrapper",
            # Two images a pass: batch norm needs more than one value of a map pooled to one.
            "optim_wrapper.accumulative_counts=2",
            "auto_scale_lr.base_batch_size=4",
        ],
    )
    assert outcome.data["val_dataloader"]["images"] == 3
    assert 0 <= outcome.metrics["mIoU"] <= 100
    assert (outcome.settings["precision"], outcome.settings["batch"]) == ("bf16", 4)


@pytest.mark.parametrize("name", CONFIGS[1::3])
def test_any_runner_of_mmengine_runs_it(
    ade20k: Path, checkpoints: dict[str, str], tmp_path: Path, name: str
) -> None:
    runner = Runner.from_cfg(small_config(name, checkpoints["b"], ade20k, tmp_path))
    runner.train()
    assert runner.iter == 2
    assert 0 <= runner.message_hub.get_scalar("val/mIoU").current() <= 100
    assert (tmp_path / "iter_2.pth").is_file()


Models = tuple[torch.nn.Module, torch.nn.Module, dict[str, Any]]


@pytest.fixture
def multi_scale(ade20k: Path, checkpoints: dict[str, str], tmp_path: Path) -> Models:
    """The multi-scale model, mmsegmentation's own wrapper around an equal one, and a batch."""
    from mmseg.registry import DATASETS, MODELS

    config = small_config(CONFIGS[4], checkpoints["b"], ade20k, tmp_path)
    init_default_scope("mmseg")
    torch.manual_seed(0)
    ours = MODELS.build(config.model).eval()
    with torch.no_grad():
        for module in ours.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        ours.decode_head.conv_seg.weight.normal_()
    plain = MODELS.build({**config.model, "type": "EncoderDecoder"}).eval()
    plain.load_state_dict(ours.state_dict())
    theirs = MODELS.build({"type": "SegTTAModel", "module": plain})
    dataset = DATASETS.build(config.val_dataloader.dataset)
    return ours, theirs, pseudo_collate([dataset[0]])


def test_multi_scale_predicts_what_mmsegmentations_wrapper_does(
    multi_scale: Models,
) -> None:
    ours, theirs, batch = multi_scale
    shapes = [tuple(images[0].shape[1:]) for images in batch["inputs"]]
    # 72 x 96: short sides of 64 and 80, each twice, the second mirrored.
    assert shapes == [(64, 85), (64, 85), (80, 107), (80, 107)]
    assert torch.equal(batch["inputs"][0][0].flip(-1), batch["inputs"][1][0])
    with torch.no_grad():
        (expected,) = theirs.test_step(batch)
        (found,) = ours.val_step(batch)
    assert found.pred_sem_seg.data.shape == found.gt_sem_seg.data.shape == (1, 72, 96)
    assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)
    assert len(expected.pred_sem_seg.data.unique()) > 1


def test_a_mirrored_image_gets_the_mirrored_prediction(
    multi_scale: Models,
) -> None:
    ours, _, batch = multi_scale
    mirrored = {
        "inputs": [[image.flip(-1) for image in images] for images in batch["inputs"]],
        "data_samples": batch["data_samples"],
    }
    with torch.no_grad():
        (there,) = ours.test_step(mirrored)
        turned = there.pred_sem_seg.data.flip(-1).clone()
        (here,) = ours.test_step(batch)
    same = (here.pred_sem_seg.data == turned).float().mean()
    assert same > 0.999


def test_multi_scale_without_its_transform_is_refused(
    multi_scale: Models,
) -> None:
    ours, _, batch = multi_scale
    with pytest.raises(InputError, match="MultiScaleFlip"):
        ours.val_step({name: values[0] for name, values in batch.items()})
