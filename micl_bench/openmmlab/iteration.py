"""One training iteration of a config's model with images in memory: no file is read but the checkpoint.

The model, its optimiser and its precision are the config's; images and truth are made up, of the size
and number that the config trains on.
"""

import dataclasses
import importlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from micl_bench.openmmlab.input_size import Size, training_size
from micl_bench.openmmlab.isolation import no_trace, quiet

_ENDLESS = 1 << 30
_OBJECTS = 7
"""Per image; COCO has 7.3 on average."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Iteration:
    """A model in training and what it is trained on."""

    step: Callable[[], object]
    """Forward, backward and the optimiser's step on the same images."""
    images: int
    size: Size


def import_library(config: Config) -> None:
    """Import the modules that building a model needs, so that their memory does not count as its own."""
    importlib.import_module(f"{config.default_scope}.models")


def build_model(config: Config) -> nn.Module:
    """Build the config's model on the CPU, as it is in one process, its checkpoint loaded."""
    model_config = {**config.model}
    if preprocessor := config.get("data_preprocessor"):
        model_config.setdefault("data_preprocessor", preprocessor)
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.random.fork_rng([]):
        model: nn.Module = revert_sync_batchnorm(MODELS.build(model_config))
    return model


def size_in_training(config: Config, model: Any) -> Size:
    """The size (height, width) that the pipeline gives, else the one that the backbone was made for."""
    if size := training_size(config):
        return size
    side = config.model.backbone.get("img_size") or model.backbone.arch.img_size
    return side, side


def training_iteration(config: Config, *, device: torch.device, images: int = 0) -> Iteration:
    """Build everything; a pass has so many `images`, or as many as the config says for 0."""
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model: Any = build_model(config).to(device).train()
        # Constructors log every parameter, and a logger that is there keeps its terminal.
        with no_trace(), quiet(io.StringIO()):
            MMLogger.get_instance("iteration")
            wrapper = build_optim_wrapper(model, config.optim_wrapper)
    wrapper.initialize_count_status(model, 0, _ENDLESS)
    images = images or config.train_dataloader.batch_size
    size = size_in_training(config, model)
    data = made_up_batch(config, images, size)

    def step() -> None:
        with DefaultScope.overwrite_default_scope(config.default_scope):
            model.train_step(dict(data), wrapper)

    return Iteration(step=step, images=images, size=size)


def made_up_batch(config: Config, images: int, size: Size) -> dict[str, Any]:
    """Make the batch that a data loader would give to the config's model: random pixels with a truth."""
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(images)]
    about: dict[str, Any] = dict.fromkeys(
        ("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), size
    )
    about |= {"scale_factor": (1.0, 1.0), "img_padding_size": (0, 0, 0, 0)}
    make = _segmented if config.default_scope == "mmseg" else _detected
    return {"inputs": inputs, "data_samples": [make(n, size, about) for n in range(images)]}


def _segmented(number: int, size: Size, about: dict[str, Any]) -> Any:
    """Make mmsegmentation's truth: every pixel is of class 0."""
    from mmseg.structures import SegDataSample

    labels_1HW = torch.zeros(1, *size, dtype=torch.long)
    return SegDataSample(gt_sem_seg=PixelData(data=labels_1HW), metainfo=about)


def _detected(number: int, size: Size, about: dict[str, Any]) -> Any:
    """Make mmdetection's truth: some objects of class 0, boxes with full masks."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    (height, width), random = size, np.random.default_rng(number)
    sides_O2 = random.uniform(0.05, 0.5, size=(_OBJECTS, 2)) * (width, height)
    corners_O2 = random.uniform(0, 1, size=(_OBJECTS, 2)) * ((width, height) - sides_O2)
    boxes_O4 = np.concatenate([corners_O2, corners_O2 + sides_O2], axis=1).astype(np.float32)
    masks_OHW = np.zeros((_OBJECTS, height, width), dtype=np.uint8)
    for mask_HW, (left, top, right, bottom) in zip(masks_OHW, boxes_O4.astype(int), strict=True):
        mask_HW[top : bottom + 1, left : right + 1] = 1
    objects = InstanceData(
        bboxes=torch.from_numpy(boxes_O4),
        labels=torch.zeros(_OBJECTS, dtype=torch.long),
        masks=BitmapMasks(masks_OHW, height, width),
    )
    sample = DetDataSample(gt_instances=objects, metainfo=about)
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    return sample
