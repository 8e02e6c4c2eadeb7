"""The COCO configs: their values, and two steps of each on tiny data in COCO's format."""

import ast
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from openmmlab.coco_configs import (
    CATEGORIES,
    COCO_IDS,
    DEPTHS,
    DOWNSTREAM,
    ONE_X,
    VITDET,
    size_of,
    small,
    small_config,
)
from openmmlab.tiny_runs import tiny
from timm.layers import LayerNorm2d
from torch import nn

from micl_bench.backbone import named_arch
from micl_bench.openmmlab import run
from micl_bench.openmmlab.configs import resolve
from micl_bench.runtime.errors import InputError

CONFIGS = [*VITDET.values(), *ONE_X.values()]
ids = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
ARCHS = {"s": "vit_small", "b": "vit_base", "l": "vit_large"}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As deep as each size, and narrow."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {size: tiny(folder / f"{size}.pt", depth=depth) for size, depth in DEPTHS.items()}


@pytest.fixture(scope="module")
def coco(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded scenes under COCO's own 80 categories: digit d is the one with label 8 * d."""
    source, folder = embedded / "embedded-coco", tmp_path_factory.mktemp("full") / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (folder / split).symlink_to(source / split)
        name = f"annotations/instances_{split}.json"
        content = json.loads((source / name).read_text())
        for annotation in content["annotations"]:
            annotation["category_id"] = COCO_IDS[8 * (annotation["category_id"] - 1)]
        (folder / name).write_text(json.dumps({**content, "categories": CATEGORIES}))
    return folder


@pytest.fixture(autouse=True)
def _in_mmdets_scope() -> None:
    """Of which `conftest` leaves nothing."""
    init_default_scope("mmdet")


# What papers and released configs say, in another form than the configs say it:
# width, blocks taken, drop path, rate, layer decay.
TABLE = {
    VITDET["s"]: (384, None, 0.1, 1e-4, 0.7),
    VITDET["b"]: (768, None, 0.1, 1e-4, 0.7),
    VITDET["l"]: (1024, None, 0.4, 1e-4, 0.8),
    ONE_X["s"]: (384, [4, 6, 8, 12], 0.1, 3e-4, 0.75),
    ONE_X["b"]: (768, [4, 6, 8, 12], 0.2, 3e-4, 0.75),
    ONE_X["l"]: (1024, [8, 12, 16, 24], 0.2, 2e-4, 0.85),
}


@ids
def test_values_of_each_size(path: Path) -> None:
    config = Config.fromfile(path)
    width, blocks, drop_path, rate, layer_decay = TABLE[path]
    backbone, optim = config.model.backbone, config.optim_wrapper
    assert backbone.checkpoint == f"random:{ARCHS[size_of(path)]}_patch16_224"
    assert np.unique(config.model.neck.in_channels).tolist() == [width]
    assert named_arch(backbone.checkpoint.partition(":")[2]).width == width
    assert backbone.drop_path == drop_path
    assert backbone.out_blocks == (blocks and [number - 1 for number in blocks])
    assert (optim.optimizer.type, optim.optimizer.lr) == ("AdamW", rate)
    assert tuple(optim.optimizer.betas) == (0.9, 0.999)
    assert optim.constructor == "MiCLViTConstructor"
    assert optim.paramwise_cfg == {"layer_decay": layer_decay}
    assert not backbone.final_norm


@pytest.mark.parametrize("path", VITDET.values(), ids=lambda path: path.stem)
def test_vitdets_protocol(path: Path) -> None:
    config = Config.fromfile(path)
    backbone, flip, resize, crop = (
        config.model.backbone,
        *config.train_dataloader.dataset.pipeline[2:5],
    )
    assert config.auto_scale_lr.base_batch_size == config.train_dataloader.batch_size == 64
    steps = 100 * 118_000 // 64
    assert config.train_cfg.max_iters == config.train_cfg.val_interval == steps
    warmup, drops = config.param_scheduler
    assert (warmup.end, warmup.start_factor, drops.gamma, drops.end) == (250, 0.001, 0.1, steps)
    np.testing.assert_allclose(drops.milestones, [steps * 8 / 9, steps * 26 / 27], atol=1)
    assert config.optim_wrapper.optimizer.weight_decay == 0.1
    assert (flip.prob, resize.ratio_range, resize.keep_ratio) == (0.5, (0.1, 2.0), True)
    assert resize.scale == crop.crop_size == (1024, 1024)
    assert config.val_dataloader.dataset.pipeline[1].scale == (1024, 1024)
    assert config.model.data_preprocessor.pad_size_divisor == backbone.img_size == 1024
    assert (backbone.strides, backbone.window_size, backbone.global_blocks) == ((16,), 14, None)
    assert not backbone.prefix_tokens
    assert config.model.neck.type == "SimpleFeaturePyramid"
    assert config.model.rpn_head.num_convs == 2
    assert not config.model.train_cfg.rcnn.assigner.match_low_quality


@pytest.mark.parametrize("path", ONE_X.values(), ids=lambda path: path.stem)
def test_the_1x_protocol(path: Path) -> None:
    config = Config.fromfile(path)
    train = config.train_dataloader
    assert config.auto_scale_lr.base_batch_size == train.batch_size == 32
    epoch = -(-117_266 // 32)
    assert config.train_cfg.max_iters == config.train_cfg.val_interval == 12 * epoch
    warmup, drops = config.param_scheduler
    assert (warmup.end, warmup.start_factor, drops.gamma) == (500, 0.001, 0.1)
    assert drops.milestones == [9 * epoch, 11 * epoch]
    assert config.optim_wrapper.optimizer.weight_decay == 0.05
    assert train.batch_sampler.type == "AspectRatioBatchSampler"
    (plain,), (smaller, crop, after) = train.dataset.pipeline[3].transforms
    shorts = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
    assert plain.scales == after.scales == [(short, 1333) for short in shorts]
    assert smaller.scales == [(400, 1333), (500, 1333), (600, 1333)]
    assert (crop.crop_type, crop.crop_size) == ("absolute_range", (384, 600))
    assert config.val_dataloader.dataset.pipeline[1].scale == (1333, 800)
    head = config.model.roi_head.bbox_head
    assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == ("GIoULoss", 10.0)
    assert (head.norm_cfg.type, head.reg_decoded_bbox) == ("SyncBN", True)
    assert config.model.neck.type == "FPN"
    assert config.model.train_cfg.rpn_proposal.max_per_img == 2000


@ids
def test_what_all_have_in_common(path: Path) -> None:
    config = Config.fromfile(path)
    train, val = config.train_dataloader.dataset, config.val_dataloader.dataset
    assert (train.type, train.ann_file) == ("CocoDataset", "annotations/instances_train2017.json")
    assert (val.ann_file, val.test_mode) == ("annotations/instances_val2017.json", True)
    assert train.filter_cfg == {"filter_empty_gt": True, "min_size": 32}
    assert config.train_dataloader.sampler.type == "InfiniteSampler"
    assert config.model.roi_head.bbox_head.num_classes == 80
    assert config.model.roi_head.mask_head.num_classes == 80
    assert config.val_evaluator.metric == ["bbox", "segm"]
    assert config.val_evaluator.backend == "pycocotools"
    assert (config.optim_wrapper.type, config.auto_scale_lr.enable) == ("OptimWrapper", False)
    assert not config.default_hooks.checkpoint.by_epoch
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"--recipe {path.stem} " in docstring


def test_both_start_from_one_detector() -> None:
    detector = Config.fromfile(DOWNSTREAM / "_base_" / "coco_mask_rcnn.py").model
    for path in (VITDET["b"], ONE_X["b"]):
        model = Config.fromfile(path).model
        for name in ("bbox_roi_extractor", "mask_roi_extractor"):
            assert model.roi_head[name] == detector.roi_head[name]
        assert model.test_cfg == detector.test_cfg


@ids
def test_a_name_that_would_change_nothing_is_refused(path: Path, coco: Path) -> None:
    for name in ("steps", "scales", "side", "strides", "num_classes", "epoch"):
        with pytest.raises(InputError, match=f"has no '{name}'"):
            resolve(path, checkpoint="", data=coco, seed=0, overrides=[f"{name}=1"])


def test_vitdets_heads_have_a_norm_after_every_convolution(
    coco: Path, checkpoints: dict[str, str]
) -> None:
    model = MODELS.build(small_config(VITDET["b"], checkpoints["b"], coco).model)
    for convs in (model.roi_head.bbox_head.shared_convs, model.roi_head.mask_head.convs):
        assert len(convs) == 4
        for conv in convs:
            assert isinstance(conv, ConvModule)
            assert isinstance(conv.norm, LayerNorm2d)
            assert (conv.norm.eps, conv.conv.bias) == (1e-6, None)
    assert len(model.roi_head.bbox_head.shared_fcs) == 1
    assert len([part for part in model.rpn_head.rpn_conv if isinstance(part, ConvModule)]) == 2
    assert model.backbone.global_blocks == [2, 5, 8, 11]
    assert model.backbone.vit.num_prefix_tokens == 0
    normed = model.roi_head.mask_head.convs[0].norm(torch.randn(2, 16, 3, 3))
    torch.testing.assert_close(normed.mean(1), torch.zeros(2, 3, 3), atol=1e-5, rtol=0)


def test_the_1x_heads_have_batch_norm(coco: Path, checkpoints: dict[str, str]) -> None:
    model = MODELS.build(small_config(ONE_X["l"], checkpoints["l"], coco).model)
    for conv in model.roi_head.bbox_head.shared_convs:
        assert isinstance(conv.norm, nn.SyncBatchNorm)
    assert not any(conv.with_norm for conv in model.roi_head.mask_head.convs)
    assert model.backbone.out_blocks == [7, 11, 15, 23]
    assert model.backbone.vit.num_prefix_tokens == 1


@pytest.mark.long
@pytest.mark.parametrize("path", [VITDET["b"], ONE_X["b"]], ids=lambda path: path.stem)
def test_eval_coco_runs_it(
    path: Path, coco: Path, checkpoints: dict[str, str], tmp_path: Path
) -> None:
    # One with each backend: the run itself compares the metrics with what it kept of each image.
    fast = path in VITDET.values() and importlib.util.find_spec("faster_coco_eval")
    backend = "faster_coco_eval" if fast else "pycocotools"
    outcome = run(
        path,
        checkpoint=checkpoints["b"],
        data=coco,
        work_dir=tmp_path,
        overrides=[*small(path), f"val_evaluator.backend={backend}"],
    )
    assert {"box_AP", "mask_AP"} <= outcome.metrics.keys()
    assert outcome.data["val_dataloader"]["images"] == 3
    assert outcome.settings["steps"] == outcome.settings["batch"] == 2
    labels = np.load(outcome.predictions)["truth_label_T"]
    assert len(labels)
    assert set(labels.tolist()) <= {8 * digit for digit in range(10)}


@pytest.mark.long
@pytest.mark.parametrize(
    "path", [VITDET["s"], VITDET["l"], ONE_X["s"], ONE_X["l"]], ids=lambda path: path.stem
)
def test_mmengines_own_runner_runs_it(
    path: Path, coco: Path, checkpoints: dict[str, str], tmp_path: Path
) -> None:
    content = small_config(path, checkpoints[size_of(path)], coco).to_dict()
    # mmengine takes half the test's time to lay out the config for its log.
    config = Config(content, format_python_code=False)
    config.work_dir, config.experiment_name = str(tmp_path), path.stem
    config.train_dataloader.batch_size = 2
    runner = Runner.from_cfg(config)
    before = {name: value.clone() for name, value in runner.model.named_parameters()}
    runner.train()
    assert runner.iter == 2
    moved = {n for n, value in runner.model.named_parameters() if not value.equal(before[n])}
    assert "backbone.vit.patch_embed.proj.weight" in moved
    assert "roi_head.mask_head.conv_logits.weight" in moved
    found = runner.message_hub.get_scalar("val/coco/bbox_mAP").current()
    assert 0 <= found <= 1
