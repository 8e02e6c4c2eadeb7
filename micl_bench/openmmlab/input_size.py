"""The size of the images that a config brings to its network, read from its pipelines.

Sizes are (height, width) in pixels of a lying image, the largest that the transforms allow. Where images
keep their shape, none counts as longer than twice its width, and a batch of upright and lying ones is
padded to a square, unless an `AspectRatioBatchSampler` keeps them apart.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from micl_bench.openmmlab.configs import dicts

Size = tuple[int, int]

_LONGEST = 2


def training_size(config: Any) -> Size | None:
    """The size of a training batch as the network sees it; None where the config does not say."""
    preprocessor, loader = config.model.get("data_preprocessor") or {}, config.train_dataloader
    if fixed := [node["size"] for node in dicts(preprocessor) if node.get("size")]:
        return _pair(fixed[-1])
    apart = _name(loader.get("batch_sampler") or {}) == "AspectRatioBatchSampler"
    square = loader.get("batch_size", 1) > 1 and not apart
    pipelines = [node["pipeline"] for node in dicts(loader.get("dataset")) if "pipeline" in node]
    size = _largest(_after(steps, None, square) for steps in pipelines)
    divisor = preprocessor.get("pad_size_divisor") or preprocessor.get("size_divisor") or 1
    return size and (-(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor)


def _after(steps: Iterable[Any], size: Size | None, square: bool) -> Size | None:
    """The largest size that comes out of these transforms."""
    for step in steps:
        name, kind = _name(step), step.get("crop_type", "absolute")
        if name == "RandomChoice":
            ways = [way if isinstance(way, list) else [way] for way in step["transforms"]]
            size = _largest(_after(way, size, square) for way in ways)
        elif inner := step.get("transforms"):
            after = _after(inner if isinstance(inner, list) else [inner], size, square)
            size = _largest([after, size]) if name == "RandomApply" else after
        elif "Resize" in name:
            size = _resized(step, square) or size
        elif name.endswith("Crop") and "crop_size" in step and kind.startswith("absolute"):
            # Libraries differ in the order of its sides, which moves no amount of memory.
            crop = _pair(step["crop_size"] if kind == "absolute" else max(step["crop_size"]))
            size = (min(size[0], crop[0]), min(size[1], crop[1])) if size else crop
        elif name == "Pad" and step.get("size"):
            size = _pair(step["size"])
    return size


def _resized(step: Any, square: bool) -> Size | None:
    """The largest of a resize, whose `scale` or `scales` are (width, height) or shortest sides."""
    scales = step.get("scales") or [step.get("scale") or ()]
    # A `scale` may be two, between which one is drawn.
    scales = scales[0] if np.ndim(scales[0]) == 2 else scales
    factor = max(step.get("ratio_range") or (1.0,))
    by_shortest = _name(step) == "ResizeShortestEdge"
    sizes = list[Size]()
    for scale in filter(None, scales):
        width, height = (math.ceil(side * factor) for side in _pair(scale))
        shortest, longest = min(width, height), max(width, height)
        if by_shortest or step.get("keep_ratio", _name(step) == "FixScaleResize"):
            most = (step.get("max_size") or math.inf) if by_shortest else longest
            longest = int(min(most, _LONGEST * shortest))
            height, width = longest if square else shortest, longest
        sizes.append((height, width))
    return _largest(sizes)


def _largest(sizes: Iterable[Size | None]) -> Size | None:
    return max(filter(None, sizes), key=math.prod, default=None)


def _pair(value: Any) -> Size:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _name(part: Any) -> str:
    """`Resize` of `mmdet.Resize`, or of the class itself."""
    kind = part.get("type", "")
    return str(kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
