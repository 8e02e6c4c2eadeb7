"""Mask R-CNN of mmdetection, on a ViT and without mmcv's compiled operators."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

import micl_bench.openmmlab  # noqa: F401  (puts the operators in place before mmdet asks)

# isort: split
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

CONFIG = Path(__file__).parents[2] / "downstream" / "embedded_mask_rcnn.py"


def scene(side: int) -> tuple[Tensor, DetDataSample]:
    """A bright square on black, and the sample that says so."""
    image = torch.zeros(3, side, side, dtype=torch.uint8)
    image[:, 20:44, 8:32] = 255
    mask = np.zeros((1, side, side), dtype=np.uint8)
    mask[0, 20:44, 8:32] = 1
    sample = DetDataSample(
        metainfo={"img_shape": (side, side), "ori_shape": (side, side), "scale_factor": (1.0, 1.0)}
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 20, 32, 44]]),
        labels=torch.tensor([3]),
        masks=BitmapMasks(mask, side, side),
    )
    return image, sample


def test_mask_rcnn_trains_and_predicts() -> None:
    before = DefaultScope._instance_dict.copy()
    try:
        init_default_scope("mmdet")
        torch.manual_seed(0)
        model = MODELS.build(Config.fromfile(CONFIG).model)
        model.init_weights()
        image, sample = scene(64)
        batch = {"inputs": [image, image], "data_samples": [sample, sample]}
        losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
        total, _ = model.parse_losses(losses)
        total.backward()
        model.eval()
        with torch.no_grad():
            predicted = model.val_step({"inputs": [image], "data_samples": [sample]})
    finally:
        DefaultScope._instance_dict = before
    assert {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"} <= losses.keys()
    gradients = {name: value.grad for name, value in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert gradients["backbone.vit.patch_embed.proj.weight"].abs().max() > 0
    found = predicted[0].pred_instances
    assert found.bboxes.shape == (len(found), 4)
    assert found.masks.shape == (len(found), 64, 64)
