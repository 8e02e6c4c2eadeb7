"""How large the images are that a config brings to its network, read from its pipelines.

Sizes are (height, width) in pixels, lying where images come upright and lying. The largest that the
transforms allow counts, and where images keep their shape: none is longer than twice its width, and a
batch of upright and lying ones is padded to a square, unless an `AspectRatioBatchSampler` keeps them
apart.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

Size = tuple[int, int]

_LONGEST = 2
_CHOICES = ("RandomChoice", "RandomApply", "TransformBroadcaster")


def training_size(config: Any) -> Size | None:
    """Of a training batch as the network sees it; None where the config does not tell."""
    preprocessor = config.model.get("data_preprocessor") or {}
    fixed = [preprocessor.get("size")]
    for augmentation in preprocessor.get("batch_augments") or ():
        if _name(augmentation) == "BatchFixedSizePad":
            fixed.append(augmentation["size"])
    if sizes := [_pair(size) for size in fixed if size]:
        return sizes[-1]
    loader = config.train_dataloader
    apart = _name(loader.get("batch_sampler") or {}) == "AspectRatioBatchSampler"
    square = loader.get("batch_size", 1) > 1 and not apart
    size = _largest(
        _after(steps, None, square) for steps in _pipelines(loader.get("dataset") or {})
    )
    if size is None:
        return None
    divisor = preprocessor.get("pad_size_divisor") or preprocessor.get("size_divisor") or 1
    height, width = (math.ceil(side / divisor) * divisor for side in size)
    return height, width


def _pipelines(dataset: Any) -> Iterator[Any]:
    """Of a data set and of those that it wraps."""
    for inner in dataset.get("datasets") or [dataset.get("dataset")]:
        if inner:
            yield from _pipelines(inner)
    if dataset.get("pipeline"):
        yield dataset["pipeline"]


def _after(steps: Iterable[Any], size: Size | None, square: bool) -> Size | None:
    """The largest size that comes out of these transforms."""
    for step in steps:
        name = _name(step)
        if name in _CHOICES:
            parts = step["transforms"]
            branches = parts if name == "RandomChoice" else [parts]
            branches = [[branch] if "type" in branch else branch for branch in branches]
            ends = [_after(branch, size, square) for branch in branches]
            size = _largest([*ends, size] if name == "RandomApply" else ends)
        elif "Resize" in name:
            size = _largest(_resized(step, square)) or size
        elif name.endswith("Crop") and "crop_size" in step:
            size = _cropped(step, size)
        elif name == "Pad" and step.get("size"):
            size = _pair(step["size"])
    return size


def _resized(step: Any, square: bool) -> Iterator[Size]:
    """`scale` and `scales` are a (width, height), several of them, or a shortest side."""
    given: Any = step.get("scales") or step.get("scale") or ()
    # The two numbers of `scale=(640, 480)` are one; of `scales=[480, 512]` each is one of its own.
    single = isinstance(given, int) or ("scales" not in step and isinstance((*given, ())[0], int))
    factor = max(step.get("ratio_range") or (1.0,))
    for scale in [given] if single else given:
        width, height = _pair(scale)
        width, height = math.ceil(width * factor), math.ceil(height * factor)
        if _name(step) == "ResizeShortestEdge":
            shortest = min(width, height)
            longest = min(_LONGEST * shortest, step.get("max_size") or math.inf)
        elif step.get("keep_ratio", _name(step) == "FixScaleResize"):
            longest, shortest = max(width, height), min(width, height)
            longest = min(longest, _LONGEST * shortest)
        else:
            yield height, width
            continue
        yield int(longest if square else shortest), int(longest)


def _cropped(step: Any, size: Size | None) -> Size | None:
    """The order of `crop_size` differs between the libraries, and matters for no amount of memory."""
    kind, crop = step.get("crop_type", "absolute"), _pair(step["crop_size"])
    if kind == "absolute_range":
        crop = (max(crop), max(crop))
    elif kind != "absolute":
        return size
    return crop if size is None else (min(size[0], crop[0]), min(size[1], crop[1]))


def _largest(sizes: Iterable[Size | None]) -> Size | None:
    known = [size for size in sizes if size]
    return max(known, key=math.prod) if known else None


def _pair(value: Any) -> Size:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _name(part: Any) -> str:
    """`Resize` of `mmdet.Resize`, or of the class itself."""
    kind = part.get("type", "")
    return str(kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
