"""Images in memory with made-up truth, as the libraries' models take them in training."""

from typing import Any

import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from micl_bench.openmmlab.input_size import Size

_OBJECTS = 7
"""An image of COCO has 7.3 on average."""


def segmented(images_NCHW: Tensor) -> list[Any]:
    """mmsegmentation's truth for each image: every pixel is of class 0."""
    from mmseg.structures import SegDataSample

    height, width = images_NCHW.shape[-2:]
    labels = [images_NCHW.new_zeros(1, height, width, dtype=torch.long) for _ in images_NCHW]
    about = _about((height, width))
    return [
        SegDataSample(gt_sem_seg=PixelData(data=label_1HW), metainfo=about) for label_1HW in labels
    ]


def detected(images: int, size: Size) -> list[Any]:
    """mmdetection's truth for each image: some objects of class 0, boxes with full masks."""
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    height, width = size
    samples = []
    for number in range(images):
        random = np.random.default_rng(number)
        sides_O2 = random.uniform(0.05, 0.5, size=(_OBJECTS, 2)) * (width, height)
        corners_O2 = random.uniform(0, 1, size=(_OBJECTS, 2)) * ((width, height) - sides_O2)
        boxes_O4 = np.concatenate([corners_O2, corners_O2 + sides_O2], axis=1).astype(np.float32)
        masks_OHW = np.zeros((_OBJECTS, height, width), dtype=np.uint8)
        for mask_HW, (left, top, right, bottom) in zip(
            masks_OHW, boxes_O4.astype(int), strict=True
        ):
            mask_HW[top : bottom + 1, left : right + 1] = 1
        objects = InstanceData(
            bboxes=torch.from_numpy(boxes_O4),
            labels=torch.zeros(_OBJECTS, dtype=torch.long),
            masks=BitmapMasks(masks_OHW, height, width),
        )
        sample = DetDataSample(gt_instances=objects, metainfo=_about(size))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        samples.append(sample)
    return samples


def _about(size: Size) -> dict[str, Any]:
    return {
        "img_shape": size,
        "ori_shape": size,
        "pad_shape": size,
        "batch_input_shape": size,
        "scale_factor": (1.0, 1.0),
        "img_padding_size": (0, 0, 0, 0),
    }
