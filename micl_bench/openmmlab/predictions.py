"""The first predictions of an evaluation as plain arrays, for a report to draw.

Shapes: N images, H x W pixels, C colours, D detections, T true objects, 4 box corners (x1, y1, x2,
y2 in pixels). Label 255 is ignored; smaller pictures are padded to the largest, below and right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from micl_bench.runtime.files import atomic_path

_MIN_SCORE = 0.05
_MAX_DETECTIONS = 20
_IGNORED = 255

Arrays = dict[str, NDArray[Any]]


def write_predictions(path: Path, samples: Sequence[Any], classes: Sequence[str]) -> None:
    """Write the data samples of mmsegmentation or mmdetection as `.npz` without pickled objects."""
    pictures = [_picture(sample) for sample in samples]
    images_NHWC = _stack(pictures, 0)
    if "pred_sem_seg" in samples[0]:
        arrays = _segmentation(samples)
    else:
        arrays = _detection(samples, images_NHWC.shape[1:3])
    arrays |= {"images_NHWC": images_NHWC, "classes": np.array(classes, dtype=np.str_)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _picture(sample: Any) -> NDArray[np.uint8]:
    """The image (H, W, 3) the way round that it was evaluated in."""
    with Image.open(sample.img_path) as image:
        stored = (image.height, image.width) == tuple(sample.ori_shape[:2])
        return np.asarray((image if stored else ImageOps.exif_transpose(image)).convert("RGB"))


def _segmentation(samples: Sequence[Any]) -> Arrays:
    named = {"truth_NHW": "gt_sem_seg", "predicted_NHW": "pred_sem_seg"}
    return {
        name: _stack([sample.get(field).data[0].cpu().numpy() for sample in samples], _IGNORED)
        for name, field in named.items()
    }


def _detection(samples: Sequence[Any], size: tuple[int, ...]) -> Arrays:
    # Detections are sorted by score.
    found = [
        objects[objects.scores >= _MIN_SCORE][:_MAX_DETECTIONS]
        for objects in (sample.pred_instances for sample in samples)
    ]
    scores = {"score_D": np.concatenate([_numpy(objects.scores) for objects in found])}
    truth = [sample.gt_instances for sample in samples]
    return _objects(found, "", "D", size) | scores | _objects(truth, "truth_", "T", size)


def _objects(per_image: Sequence[Any], prefix: str, letter: str, size: tuple[int, ...]) -> Arrays:
    """Arrays whose names begin so, `letter` for the number of objects."""
    counts = [len(objects) for objects in per_image]
    # As large as the largest picture; without any mask, an empty array of that size.
    masks = [np.zeros(size), *(mask_HW for objects in per_image for mask_HW in _masks(objects))]
    return {
        f"{prefix}box_{letter}4": np.concatenate([_numpy(objects.bboxes) for objects in per_image]),
        f"{prefix}label_{letter}": np.concatenate([_numpy(one.labels) for one in per_image]),
        f"{prefix}image_{letter}": np.repeat(np.arange(len(per_image)), counts),
        f"{prefix}mask_{letter}HW": _stack(masks, 0)[1:].astype(bool),
    }


def _masks(objects: Any) -> NDArray[np.uint8]:
    if "masks" not in objects:
        # A detector of boxes alone: every mask is empty.
        return np.zeros((len(objects), 1, 1), dtype=np.uint8)
    masks = objects.masks
    array = masks.to_ndarray() if hasattr(masks, "to_ndarray") else _numpy(masks)
    return array.astype(np.uint8)


def _numpy(values: Any) -> NDArray[Any]:
    """An array of a tensor, an array, or mmdetection's boxes."""
    values = getattr(values, "tensor", values)
    return values.cpu().numpy() if hasattr(values, "cpu") else np.asarray(values)


def _stack(arrays: Sequence[NDArray[Any]], fill: int) -> NDArray[np.uint8]:
    height, width = (max(array.shape[axis] for array in arrays) for axis in (0, 1))
    stacked = np.full((len(arrays), height, width, *arrays[0].shape[2:]), fill, dtype=np.uint8)
    for target, array in zip(stacked, arrays, strict=True):
        target[: array.shape[0], : array.shape[1]] = array
    return stacked
