"""The COCO configs: their values, the images they train on, and two steps of each on tiny data in COCO's
format.
"""

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from openmmlab.tiny_runs import WIDTH, tiny
from PIL import Image
from support import REPOSITORY
from timm.layers import LayerNorm2d
from torch import nn

from micl_bench.backbone import named_arch
from micl_bench.openmmlab import run
from micl_bench.openmmlab.configs import resolve
from micl_bench.runtime.errors import InputError

DOWNSTREAM = REPOSITORY / "downstream"
VITDET = {
    "s": DOWNSTREAM / "coco_vitdet_vit_s16.py",
    "b": DOWNSTREAM / "coco_vitdet_vit_b16.py",
    "l": DOWNSTREAM / "coco_vitdet_vit_l16.py",
}
ONE_X = {
    "s": DOWNSTREAM / "coco_mask_rcnn_1x_vit_s16.py",
    "b": DOWNSTREAM / "coco_mask_rcnn_1x_vit_b16.py",
    "l": DOWNSTREAM / "coco_mask_rcnn_1x_vit_l16.py",
}
CONFIGS = [*VITDET.values(), *ONE_X.values()]
ids = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
DEPTHS = {"s": 12, "b": 12, "l": 24}
ARCHS = {"s": "vit_small", "b": "vit_base", "l": "vit_large"}
SIDE = 64
# COCO numbers its 80 categories up to 90, with gaps.
COCO_IDS = sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

CATEGORIES = [
    {"id": number, "name": name}
    for number, name in zip(COCO_IDS, CocoDataset.METAINFO["classes"], strict=True)
]

# Sizes and lengths only, but for one threshold.
SMALL = (
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "auto_scale_lr.base_batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "train_dataloader.dataset.indices=8",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "val_dataloader.dataset.indices=3",
    "model.roi_head.bbox_head.fc_out_channels=64",
    "model.roi_head.bbox_head.conv_out_channels=16",
    "model.roi_head.mask_head.conv_out_channels=16",
    "model.rpn_head.feat_channels=16",
    "model.train_cfg.rcnn.sampler.num=16",
    "model.train_cfg.rpn_proposal.max_per_img=32",
    "model.test_cfg.rpn.max_per_img=32",
    "model.test_cfg.rcnn.max_per_img=10",
    # Of 81 classes none is likely after two steps, and without detections there is no metric.
    "model.test_cfg.rcnn.score_thr=0.001",
)
SMALL_VITDET = (
    *SMALL,
    "model.neck.in_channels=32",
    f"model.backbone.img_size={SIDE}",
    # Less than the 4 x 4 patches, so that windows and their padding take part.
    "model.backbone.window_size=3",
    f"model.data_preprocessor.pad_size_divisor={SIDE}",
    f"train_dataloader.dataset.pipeline.3.scale=({SIDE}, {SIDE})",
    f"train_dataloader.dataset.pipeline.4.crop_size=({SIDE}, {SIDE})",
    f"val_dataloader.dataset.pipeline.1.scale=({SIDE}, {SIDE})",
)
_CHOICE = "train_dataloader.dataset.pipeline.3.transforms"
SMALL_ONE_X = (
    *SMALL,
    f"model.neck.in_channels={[WIDTH] * 4}",
    f"{_CHOICE}.0.0.scales=[(64, 96), (80, 96)]",
    f"{_CHOICE}.1.0.scales=[(48, 96), (64, 96)]",
    f"{_CHOICE}.1.1.crop_size=(40, 48)",
    f"{_CHOICE}.1.2.scales=[(64, 96), (80, 96)]",
    "val_dataloader.dataset.pipeline.1.scale=(96, 64)",
)


def size_of(path: Path) -> str:
    return path.stem[-3]


def small(path: Path) -> tuple[str, ...]:
    return SMALL_VITDET if path in VITDET.values() else SMALL_ONE_X


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


def small_config(path: Path, checkpoint: str, data: Path) -> Config:
    return resolve(path, checkpoint=checkpoint, data=data, seed=0, overrides=small(path))


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


# A picture in which the object alone is blue; larger than the crop, not square.
WIDE, HIGH = 160, 120
OBJECT = (10, 10, 50, 45)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("picture")
    x1, y1, x2, y2 = OBJECT
    pixels = np.full((HIGH, WIDE, 3), (200, 100, 0), dtype=np.uint8)
    pixels[y1:y2, x1:x2, 2] = 255
    (folder / "train2017").mkdir()
    Image.fromarray(pixels).save(folder / "train2017" / "one.png")
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": COCO_IDS[-1],
        "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
    }
    content = {
        "images": [{"id": 1, "file_name": "one.png", "width": WIDE, "height": HIGH}],
        "annotations": [annotation],
        "categories": CATEGORIES,
    }
    (folder / "annotations").mkdir()
    file = folder / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps(content))
    file.with_name("instances_val2017.json").write_text(json.dumps(content))
    (folder / "val2017").symlink_to(folder / "train2017")
    return folder


def drawn(config: Config, number: int) -> list[dict[str, Any]]:
    """As many items of the training data set, which has one picture."""
    dataset = {**config.train_dataloader.dataset, "indices": None}
    built = DATASETS.build(dataset)
    np.random.seed(0)
    return [built[0] for _ in range(number)]


def test_large_scale_jitter(picture: Path, checkpoints: dict[str, str]) -> None:
    config = small_config(VITDET["b"], checkpoints["b"], picture)
    scales, flips, empty = [], [], 0
    for item in drawn(config, 200):
        image, sample = item["inputs"].numpy(), item["data_samples"]
        (width, height), fit = sample.scale_factor, SIDE / WIDE
        # Fitted into a square of 0.1 to 2 times the side, in the picture's own proportions.
        assert width * WIDE / (height * HIGH) == pytest.approx(WIDE / HIGH, rel=0.15)
        scales.append(width / fit)
        flips.append(sample.flip)
        resized = (round(height * HIGH), round(width * WIDE))
        assert image.shape[1:] == tuple(min(SIDE, side) for side in resized) == sample.img_shape
        boxes = sample.gt_instances.bboxes.tensor.numpy()
        masks = sample.gt_instances.masks.to_ndarray().astype(bool)
        empty += not len(boxes)
        for box, mask in zip(boxes, masks, strict=True):
            assert sample.gt_instances.labels.tolist() == [79]
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == tight
            # The blue pixels and the mask are the same, but for a pixel of blur along the edge.
            blue = image[0] > 127
            assert (blue ^ mask).sum() <= blue_edge(tight)
    # Sides are whole pixels: 6 of 64 for a tenth.
    assert 6 / SIDE - 1e-9 < min(scales) < 0.15
    assert 1.95 < max(scales) < 2.0 + 1e-9
    assert np.mean(scales) == pytest.approx(1.05, abs=0.12)
    assert 0.4 < np.mean(flips) < 0.6
    # Cut out where the object is not, and trained on all the same.
    assert 0 < empty < 40


def blue_edge(box: list[int]) -> int:
    x1, y1, x2, y2 = box
    return 2 * (x2 - x1 + y2 - y1) + 4


def test_padded_to_the_square_with_the_mean_colour(
    picture: Path, checkpoints: dict[str, str]
) -> None:
    config = small_config(VITDET["b"], checkpoints["b"], picture)
    preprocessor = MODELS.build(config.model.data_preprocessor)
    items = drawn(config, 12)
    shapes = [item["data_samples"].img_shape for item in items]
    assert any(max(shape) < SIDE for shape in shapes)
    for training in (True, False):
        batch = {
            "inputs": [item["inputs"] for item in items],
            "data_samples": [item["data_samples"].clone() for item in items],
        }
        done = preprocessor(batch, training=training)
        assert done["inputs"].shape == (12, 3, SIDE, SIDE)
        for image, sample, (height, width) in zip(
            done["inputs"], done["data_samples"], shapes, strict=True
        ):
            # What is not picture is the mean colour, and no box may reach into it.
            assert not image[:, height:].any()
            assert not image[:, :, width:].any()
            assert sample.img_shape == (height, width)
            masks = sample.gt_instances.masks.to_ndarray()
            if training:
                assert masks.shape[1:] == (SIDE, SIDE)
                assert not masks[:, height:].any()
                assert not masks[:, :, width:].any()


def test_half_of_the_1x_images_are_cut(picture: Path, checkpoints: dict[str, str]) -> None:
    """Short sides are those of the list, or less where the long side is at its limit."""
    config = small_config(ONE_X["b"], checkpoints["b"], picture)
    proportions, shorts = [], set()
    for item in drawn(config, 120):
        height, width = item["data_samples"].img_shape
        proportions.append(width / height)
        shorts.add(min(height, width))
        assert max(height, width) <= 96
        boxes = item["data_samples"].gt_instances.bboxes.tensor
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
    whole = [abs(value - WIDE / HIGH) < 0.03 for value in proportions]
    assert 0.35 < np.mean(whole) < 0.75
    assert {64, 72} <= shorts


def test_a_batch_of_empty_crops_is_trained_on(picture: Path, checkpoints: dict[str, str]) -> None:
    config = small_config(VITDET["b"], checkpoints["b"], picture)
    items = [i for i in drawn(config, 80) if not len(i["data_samples"].gt_instances)][:2]
    model = MODELS.build(config.model)
    batch = {
        "inputs": [item["inputs"] for item in items],
        "data_samples": [item["data_samples"] for item in items],
    }
    losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    # Every process has a gradient for everything, whatever it drew.
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


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
