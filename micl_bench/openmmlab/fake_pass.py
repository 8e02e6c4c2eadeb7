"""What a training pass, an optimiser's step and an evaluation keep in memory, found with fake tensors.

mmsegmentation's models run whole, loss included. In mmdetection's, what boxes are matched with depends
on the images: their dense heads run on all features, their RoI heads on as many boxes as the sampler may
draw, and the loss is a square of what the heads give.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from micl_bench.openmmlab.input_size import Size
from micl_bench.openmmlab.live_bytes import LiveBytes, fake_copy
from micl_bench.openmmlab.synthetic import segmented

_BEFORE_HEADS = ("data_preprocessor", "backbone", "neck")

Ways = tuple[tuple[str, Callable[[Any, Tensor], Any]], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pass:
    """Bytes of one pass beside weights, gradients kept from before and the optimiser's state."""

    inputs: int
    kept: int
    """For the backward pass; 0 in evaluation."""
    peak: int
    """At the worst moment, inputs and what is kept included."""
    left_out: str = ""
    """What could not be traced and is missing, with the reason."""


def training_pass(
    model: nn.Module,
    images: int,
    size: Size,
    *,
    device: torch.device,
    cast: torch.dtype | None,
    accumulates: bool,
    segments: bool,
) -> Pass:
    """Forward and backward of `images` of one size, under autocast to `cast`.

    Args:
        accumulates: gradients of an earlier pass are there already, and are added to.
        segments: a model of mmsegmentation, not of mmdetection.
    """

    def run(way: Callable[[Any, Tensor], Any], module: Any) -> Pass:
        for parameter in module.train().parameters():
            given = accumulates and parameter.requires_grad
            parameter.grad = torch.empty_like(parameter) if given else None
        with LiveBytes(module) as memory:
            images_NCHW = torch.empty(images, 3, *size, device=device)
            with torch.autocast(device.type, cast, enabled=cast is not None):
                loss = _total(way(module, images_NCHW))
            kept = memory.now
            loss.backward()
        # Labels belong to the inputs, but live in what the loss keeps.
        inputs = images_NCHW.nbytes
        return Pass(inputs=inputs, kept=kept - inputs, peak=memory.peak)

    ways = (("the losses", _losses), ("the heads", _heads), ("the backbone", _backbone))
    return _first_that_works(ways if segments else ways[1:], model, device, run)


def evaluation_pass(
    model: nn.Module, images: int, size: Size, *, device: torch.device, segments: bool
) -> Pass:
    """Predictions for `images` of one size, without gradients, in fp32."""

    def run(way: Callable[[Any, Tensor], Any], module: Any) -> Pass:
        module.eval()
        with torch.no_grad(), LiveBytes(module) as memory:
            images_NCHW = torch.empty(images, 3, *size, device=device)
            way(module, images_NCHW)
        return Pass(inputs=images_NCHW.nbytes, kept=0, peak=memory.peak)

    ways = (("the predictions", _predictions), ("the heads", _heads), ("the backbone", _backbone))
    return _first_that_works(ways if segments else ways[1:], model, device, run)


def optimiser_bytes(model: nn.Module, optimizer: Any, *, device: torch.device) -> tuple[int, int]:
    """State that the optimiser of a config keeps, and what it needs beside it during a step."""
    fake = _fake_mode()
    module = fake_copy(model, fake, device)
    with fake:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        stepping = OPTIMIZERS.build({**optimizer, "params": parameters})
        with LiveBytes(module) as memory:
            stepping.step()
            state = memory.now
    working = memory.peak - state
    if device.type == "cuda":
        # There all tensors are stepped together, with one intermediate the size of each.
        working = max(working, sum(parameter.nbytes for parameter in parameters))
    return state, working


def _first_that_works(
    ways: Ways, model: nn.Module, device: torch.device, run: Callable[..., Pass]
) -> Pass:
    """The most complete of the ways; a model of anybody's may do what cannot be traced."""
    reason = ""
    for name, way in ways:
        fake = _fake_mode()
        module = fake_copy(model, fake, device)
        try:
            with fake, _silent():
                found = run(way, module)
        except Exception as error:
            reason = reason or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        left_out = f"only {name} could be traced ({reason})" if reason else ""
        return dataclasses.replace(found, left_out=left_out)
    return Pass(inputs=0, kept=0, peak=0, left_out=f"no pass could be traced ({reason})")


def _fake_mode() -> FakeTensorMode:
    # Models hold plain tensors too, such as anchors, which nothing finds to make fake ones of.
    return FakeTensorMode(allow_non_fake_inputs=True)


@contextmanager
def _silent() -> Iterator[None]:
    """Torch logs a trace of what cannot be traced, which is told in a line here."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _losses(model: Any, images_NCHW: Tensor) -> Any:
    losses, _ = model.parse_losses(model.loss(images_NCHW, segmented(images_NCHW)))
    return losses


def _predictions(model: Any, images_NCHW: Tensor) -> Any:
    return model.predict(images_NCHW, segmented(images_NCHW))


def _backbone(model: Any, images_NCHW: Tensor) -> Any:
    features = model.backbone(images_NCHW)
    return model.neck(features) if getattr(model, "neck", None) is not None else features


def _heads(model: Any, images_NCHW: Tensor) -> list[Any]:
    features = _backbone(model, images_NCHW)
    outputs: list[Any] = []
    for name, part in model.named_children():
        if name == "roi_head":
            outputs += _roi_heads(model, features)
        elif name not in _BEFORE_HEADS:
            outputs += [head(features) for head in _listed(part)]
    return outputs or list(features)


def _roi_heads(model: Any, features: Any) -> Iterator[Any]:
    head, images = model.roi_head, len(features[0])
    extractors = _listed(head.bbox_roi_extractor)
    for number, boxes_head in enumerate(_listed(head.bbox_head)):
        boxes, _ = _boxes_an_image(model, number)
        yield boxes_head(_pooled(features, extractors[number], images * boxes))
    if not head.with_mask:
        return
    extractors = _listed(head.mask_roi_extractor)
    for number, mask_head in enumerate(_listed(head.mask_head)):
        _, masks = _boxes_an_image(model, number)
        yield mask_head(_pooled(features, extractors[number], images * masks))


def _boxes_an_image(model: Any, stage: int) -> tuple[int, int]:
    """At most: boxes, and boxes whose masks are drawn."""
    if not model.training:
        return model.test_cfg.rpn.max_per_img, model.test_cfg.rcnn.max_per_img
    stages = model.train_cfg.rcnn
    sampler = (stages[stage] if isinstance(stages, list | tuple) else stages).sampler
    return sampler.num, int(sampler.num * sampler.pos_fraction)


def _pooled(features: Any, extractor: Any, boxes: int) -> Tensor:
    """What RoI-align gives for so many boxes; its gradient is as large as every map it reads."""
    maps = features[: extractor.num_inputs]
    linked = torch.stack([map_NChw.mul(1.0).sum() for map_NChw in maps]).sum()
    size = extractor.roi_layers[0].output_size
    return linked + maps[0].new_zeros(boxes, extractor.out_channels, *size)


def _total(outputs: Any) -> Tensor:
    tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    if len(tensors) == 1 and tensors[0].ndim == 0:
        return tensors[0]
    squares = [tensor.float().square().sum() for tensor in tensors if tensor.requires_grad]
    return torch.stack(squares).sum()


def _listed(part: Any) -> list[Any]:
    return list(part) if isinstance(part, nn.ModuleList) else [part]
