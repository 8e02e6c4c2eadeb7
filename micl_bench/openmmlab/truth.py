"""The validation set through everything that its evaluation will do, with the truth as the answer.

Each image goes through the config's own pipeline, and its truth through the config's own metric, so that
nothing is found out after days of training; a metric that is made for these data gives 100.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS
from mmengine.structures import BaseDataElement, PixelData
from numpy.typing import NDArray
from torch.utils.data import Dataset

from micl_bench.data.faults import Fault, reason
from micl_bench.data.workers import Loader
from micl_bench.openmmlab.data_sets import class_names
from micl_bench.openmmlab.evidence import agreed, counts_of
from micl_bench.openmmlab.isolation import quiet
from micl_bench.openmmlab.matches import Matches
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import counted

# The libraries round the rest away.
_AS_GOOD_AS = 99.95
_LIMIT = 100
"""The largest number of objects per class and image that counts."""
_WRITES = ("output_dir", "outfile_prefix")
_ADD = "load annotations in val_dataloader.dataset.pipeline as the shipped configs do"


def measure_truth(
    config: Config, *, on_read: Callable[[], None]
) -> tuple[dict[str, float], list[Fault]]:
    """Evaluate the truth of all validation images against itself; within `data_sets.in_scope`.

    Returns its metrics in percent, where they can be measured, and the faults that were found.

    Raises:
        InputError: the config's evaluator is none that is known.
    """
    dataset = DATASETS.build(config.val_dataloader["dataset"])
    classes = class_names(dataset, "the validation set")
    metrics = _metrics(config.val_evaluator)
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
    counts = counts_of(metrics, dataset)
    objects = _Objects(counts.metric, classes) if isinstance(counts, Matches) else None
    if objects and (fault := objects.undefined()):
        return {}, [fault]
    kept: dict[Any, Any] = {}
    unread = []
    workers = int(config.val_dataloader.get("num_workers") or 0)
    for seen in Loader(_Seen(dataset), batch_size=None, num_workers=workers, collate_fn=_as_it_is):
        on_read()
        if isinstance(seen, str):
            unread.append(seen)
        elif not unread:
            sample = objects.answer(seen) if objects else _label_map(seen, len(classes))
            plain = sample.to_dict() if isinstance(sample, BaseDataElement) else sample
            counts.metric.process({}, [plain])
            kept |= counts.kept([sample])
    if unread:
        images = counted(len(unread), "image fails", "images fail")
        found = f"{images} in its pipeline: {unread[0]}"
        return {}, [Fault(found, "correct the file, or the config's val_dataloader")]
    with quiet(io.StringIO()):
        prefix = f"{counts.metric.prefix}/" if counts.metric.prefix else ""
        named = counts.metric.compute_metrics(counts.metric.results)
        _, stated = agreed(counts, kept, {prefix + name: value for name, value in named.items()})
    low = [f"{name} {value:g}" for name, value in stated.items() if not value >= _AS_GOOD_AS]
    if not low:
        return stated, []
    found = f"evaluated against itself, the truth has {', '.join(low)}, not 100"
    if objects and (why := "; ".join(objects.why_below())):
        return stated, [Fault(f"{found}: {why}", "no model can have more", fatal=False)]
    return stated, [Fault(found, "correct the annotations, or the config's val_evaluator")]


def _label_map(seen: dict[str, Any], classes: int) -> Any:
    """An image's labels as the prediction of a model that makes no error."""
    true_HW = torch.from_numpy(seen["labels"]).long()
    known_HW = (true_HW >= 0) & (true_HW < classes)
    sample = BaseDataElement(metainfo={"img_path": seen["img_path"]})
    sample.gt_sem_seg = PixelData(data=true_HW[None])
    sample.pred_sem_seg = PixelData(data=torch.where(known_HW, true_HW, 0)[None])
    return sample


class _Objects:
    """Boxes and masks of the annotations as detections, O in an image."""

    def __init__(self, metric: Any, classes: Sequence[str]) -> None:
        self._metric, self._coco = metric, metric._coco_api
        numbers = self._coco.get_cat_ids(cat_names=list(classes))
        self._labels = {number: label for label, number in enumerate(numbers)}
        self._empty = 0
        self._counted: Counter[tuple[int, int]] = Counter()

    def undefined(self) -> Fault | None:
        """The fault of a set in which no object counts, so that AP is no number; else None."""
        if any(map(self._of, self._metric.img_ids)):
            return None
        images = counted(len(self._metric.img_ids), "image", "images")
        return Fault(
            f"no object of its {images} counts (crowds do not), so that AP is undefined",
            "give annotations of objects",
        )

    def answer(self, seen: dict[str, Any]) -> dict[str, Any]:
        """The annotations of an image as detections, in the form that `CocoMetric` takes."""
        image = seen["img_id"]
        objects = self._of(image)
        labels = [self._labels[one["category_id"]] for one in objects]
        boxes_O4 = np.array([one["bbox"] for one in objects], dtype=np.float64).reshape(-1, 4)
        self._empty += int((boxes_O4[:, 2:].prod(axis=1) <= 0).sum())
        self._counted.update((image, label) for label in labels)
        boxes_O4[:, 2:] += boxes_O4[:, :2]
        found: dict[str, Any] = {
            "bboxes": torch.from_numpy(boxes_O4),
            "scores": torch.ones(len(objects)),
            "labels": torch.tensor(labels, dtype=torch.long),
        }
        if "segm" in self._metric.metrics:
            from pycocotools import mask

            found["masks"] = [dict(self._coco.annToRLE(one)) for one in objects]
            self._empty += sum(int(mask.area(one)) == 0 for one in found["masks"])
        return {"pred_instances": found, "img_id": image, "ori_shape": seen["ori_shape"]}

    def why_below(self) -> Iterator[str]:
        """The known reasons why AP stays below 100."""
        if self._empty:
            yield f"{counted(self._empty, 'box or mask has', 'boxes or masks have')} no area"
        if crowded := sum(number > _LIMIT for number in self._counted.values()):
            images = counted(crowded, "image has", "images have")
            yield f"{images} more than {_LIMIT} objects of a class, of which {_LIMIT} count"

    def _of(self, image: int) -> list[dict[str, Any]]:
        """The objects of an image that count."""
        return [
            one
            for one in self._coco.imgToAnns[image]
            if one["category_id"] in self._labels and not one["iscrowd"]
        ]


class _Seen(Dataset[Any]):
    """The parts that matter of each image from a data set's pipeline, or why it fails; small to send."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any] | str:
        try:
            sample = self._dataset[index]["data_samples"]
            # Variants of one image, where it is evaluated in several.
            while isinstance(sample, list | tuple):
                sample = sample[0]
            return _gist(sample)
        # A pipeline is a program of the user's.
        except Exception as error:
            path = self._path(index)
            return f"{path} ({reason(error)})" if path not in str(error) else str(error)

    def _path(self, index: int) -> str:
        try:
            return str(self._dataset.get_data_info(index)["img_path"])
        except Exception:
            return f"image {index}"


def _gist(sample: Any) -> dict[str, Any] | str:
    segments = "gt_sem_seg" in sample
    needed = ["img_path", "ori_shape"] + ([] if segments else ["img_id", "gt_instances"])
    if missing := [name for name in needed if name not in sample]:
        return f"val_dataloader's pipeline gives no {' and no '.join(missing)}; {_ADD}"
    found = {name: sample.get(name) for name in needed if name != "gt_instances"}
    if segments:
        labels: NDArray[Any] = sample.gt_sem_seg.data.numpy()
        labels_HW = labels.reshape(labels.shape[-2:])
        if labels_HW.shape != tuple(sample.ori_shape[:2]):
            return (
                f"{sample.img_path}: its labels are {labels_HW.shape} where they are compared, its "
                f"image is {tuple(sample.ori_shape[:2])}; put LoadAnnotations behind Resize"
            )
        found["labels"] = labels_HW.astype(np.int32)
    return found


def _as_it_is(seen: Any) -> Any:
    return seen


def _metrics(evaluator: Any) -> list[Any]:
    """All metrics of an evaluator's config, without the files that they would write."""
    asked = evaluator.get("metrics", evaluator) if isinstance(evaluator, dict) else evaluator
    found = []
    for one in asked if isinstance(asked, list | tuple) else [asked]:
        if one.get("format_only"):
            raise InputError("val_evaluator.format_only measures nothing; set it to False")
        found.append(METRICS.build({k: v for k, v in one.items() if k not in _WRITES}))
    return found
