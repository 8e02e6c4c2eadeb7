"""The shipped COCO configs, and their values for tiny data and narrow networks."""

from pathlib import Path

from mmdet.datasets import CocoDataset
from mmengine.config import Config
from openmmlab.tiny_runs import WIDTH
from support import REPOSITORY

from micl_bench.openmmlab.configs import resolve

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
DEPTHS = {"s": 12, "b": 12, "l": 24}
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


def small_config(path: Path, checkpoint: str, data: Path) -> Config:
    return resolve(path, checkpoint=checkpoint, data=data, seed=0, overrides=small(path))
