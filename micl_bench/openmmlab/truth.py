"""The validation set through everything that its evaluation will do, with the truth as the answer.

Each image goes through the config's own pipeline, and its truth through the config's own metric, so that
nothing is found out after days of training; a metric that is made for these data gives 100.
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS
from mmengine.structures import BaseDataElement, PixelData
from torch.utils.data import Dataset

from micl_bench.data.faults import Fault, reason
from micl_bench.data.workers import Loader
from micl_bench.openmmlab.data_sets import class_names
from micl_bench.openmmlab.evidence import counts_of
from micl_bench.openmmlab.isolation import quiet
from micl_bench.openmmlab.matches import Matches
from micl_bench.openmmlab.pixel_counts import PixelCounts
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import counted

# What the libraries round away.
_AS_GOOD_AS = 99.95
_WRITES = ("output_dir", "outfile_prefix")
_ADD = "load annotations in val_dataloader.dataset.pipeline as the shipped configs do"


@dataclasses.dataclass(frozen=True)
class Truth:
    """What the metric gives for it."""

    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def measure_truth(config: Config, *, on_read: Callable[[], None]) -> Truth:
    """Evaluate the truth of all validation images against itself; within `data_sets.in_scope`.

    Raises:
        InputError: the config's evaluator is none that is known.
    """
    dataset = DATASETS.build(config.val_dataloader["dataset"])
    classes = class_names(dataset, "the validation set")
    metrics = _metrics(config.val_evaluator)
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
    counts = counts_of(metrics, dataset)
    answer = (
        _Pixels(counts, classes) if isinstance(counts, PixelCounts) else _Objects(counts, classes)
    )
    if fault := answer.undefined():
        return Truth(faults=(fault,))
    kept: dict[Any, Any] = {}
    unread = []
    for seen in _seen(dataset, int(config.val_dataloader.get("num_workers") or 0)):
        on_read()
        if isinstance(seen, str):
            unread.append(seen)
        elif not unread:
            sample = answer.sample(seen)
            counts.metric.process(
                {}, [sample.to_dict() if isinstance(sample, BaseDataElement) else sample]
            )
            kept |= counts.kept([sample])
    if unread:
        found = (
            counted(len(unread), "image fails", "images fail") + f" in its pipeline: {unread[0]}"
        )
        return Truth(faults=(Fault(found, "correct the file, or the config's val_dataloader"),))
    return _compared(counts, kept, answer)


def _compared(counts: Any, kept: dict[Any, Any], answer: "_Pixels | _Objects") -> Truth:
    metric = counts.metric
    with quiet(io.StringIO()):
        found = metric.compute_metrics(metric.results)
        prefix = f"{metric.prefix}/" if metric.prefix else ""
        stated = counts.stated(kept, {prefix + name: value for name, value in found.items()})
        if not stated:
            raise InputError(f"{type(metric).__name__} gives no metric of ours: {', '.join(found)}")
        counts.statistics(kept).check(stated)
    low = {name: value for name, value in stated.items() if not value >= _AS_GOOD_AS}
    if not low:
        return Truth(stated)
    shown = ", ".join(f"{name} {value:g}" for name, value in low.items())
    why = answer.why_below()
    text = f"evaluated against itself, the truth has {shown}, not 100"
    fault = Fault(
        f"{text}: {why}" if why else text,
        "no model can have more"
        if why
        else "correct the annotations, or the config's val_evaluator",
        fatal=not why,
    )
    return Truth(stated, (fault,))


class _Pixels:
    """Label maps as answers."""

    def __init__(self, counts: PixelCounts, classes: Sequence[str]) -> None:
        self._counts, self._classes = counts, len(classes)

    def undefined(self) -> Fault | None:
        """Labels are looked at where they are read."""
        return None

    def sample(self, seen: dict[str, Any]) -> Any:
        """As a model gives it that knows every label."""
        true_HW = torch.from_numpy(seen["labels"]).long()
        known_HW = (true_HW >= 0) & (true_HW < self._classes)
        sample = BaseDataElement(metainfo={"img_path": seen["img_path"]})
        sample.gt_sem_seg = PixelData(data=true_HW[None])
        sample.pred_sem_seg = PixelData(data=torch.where(known_HW, true_HW, 0)[None])
        return sample

    def why_below(self) -> str:
        """Nothing of the kind is in order."""
        return ""


class _Objects:
    """Boxes and masks of the annotations as answers."""

    def __init__(self, counts: Matches, classes: Sequence[str]) -> None:
        self._metric = counts.metric
        self._coco = self._metric._coco_api
        self._numbers = self._coco.get_cat_ids(cat_names=list(classes))
        self._segments = "segm" in self._metric.metrics
        self._empty = 0
        self._counted: Counter[tuple[int, int]] = Counter()

    def undefined(self) -> Fault | None:
        """Where no object counts, AP is no number."""
        known = set(self._numbers)
        for image in self._metric.img_ids:
            for one in self._coco.imgToAnns[image]:
                if one["category_id"] in known and not one["iscrowd"]:
                    return None
        images = counted(len(self._metric.img_ids), "image", "images")
        return Fault(
            f"no object of its {images} counts (crowds do not), so that AP is undefined",
            "give annotations of objects",
        )

    def sample(self, seen: dict[str, Any]) -> Any:
        """As `CocoMetric` takes it."""
        image = seen["img_id"]
        place = {number: label for label, number in enumerate(self._numbers)}
        objects = [
            one
            for one in self._coco.imgToAnns[image]
            if one["category_id"] in place and not one["iscrowd"]
        ]
        boxes_O4 = np.array([one["bbox"] for one in objects], dtype=np.float64).reshape(-1, 4)
        self._empty += int((boxes_O4[:, 2:].prod(axis=1) <= 0).sum())
        self._counted.update((image, one["category_id"]) for one in objects)
        boxes_O4[:, 2:] += boxes_O4[:, :2]
        found: dict[str, Any] = {
            "bboxes": torch.from_numpy(boxes_O4),
            "scores": torch.ones(len(objects)),
            "labels": torch.tensor(
                [place[one["category_id"]] for one in objects], dtype=torch.long
            ),
        }
        if self._segments:
            found["masks"] = self._masks(objects)
        return {"pred_instances": found, "img_id": image, "ori_shape": seen["ori_shape"]}

    def why_below(self) -> str:
        """What keeps AP below 100, in a few words; empty where nothing is known to."""
        limit = 100
        crowded = sum(number > limit for number in self._counted.values())
        reasons = []
        if self._empty:
            empty = counted(self._empty, "box or mask has", "boxes or masks have")
            reasons.append(f"{empty} no area")
        if crowded:
            images = counted(crowded, "image has", "images have")
            reasons.append(f"{images} more than {limit} objects of a class, of which {limit} count")
        return "; ".join(reasons)

    def _masks(self, objects: list[dict[str, Any]]) -> list[Any]:
        from pycocotools import mask

        found = [dict(self._coco.annToRLE(one)) for one in objects]
        self._empty += sum(int(mask.area(one)) == 0 for one in found)
        return found


class _Seen(Dataset[Any]):
    """What a data set's pipeline gives of each image, or why it fails; small enough to send."""

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
            path = _path(self._dataset, index)
            return f"{path} ({reason(error)})" if path not in str(error) else str(error)


def _gist(sample: Any) -> dict[str, Any] | str:
    segments = "gt_sem_seg" in sample
    needed = ["img_path", "ori_shape"] + ([] if segments else ["img_id", "gt_instances"])
    if missing := [name for name in needed if name not in sample]:
        return f"val_dataloader's pipeline gives no {' and no '.join(missing)}; {_ADD}"
    found = {name: sample.get(name) for name in needed if name != "gt_instances"}
    if segments:
        labels_HW = sample.gt_sem_seg.data.numpy()
        labels_HW = labels_HW.reshape(labels_HW.shape[-2:])
        if labels_HW.shape != tuple(sample.ori_shape[:2]):
            return (
                f"{sample.img_path}: its labels are {labels_HW.shape} where they are compared, its "
                f"image is {tuple(sample.ori_shape[:2])}; put LoadAnnotations behind Resize"
            )
        found["labels"] = labels_HW.astype(np.int32)
    return found


def _seen(dataset: Any, workers: int) -> Loader:
    return Loader(_Seen(dataset), batch_size=None, num_workers=workers, collate_fn=_as_it_is)


def _as_it_is(seen: Any) -> Any:
    return seen


def _path(dataset: Any, index: int) -> str:
    try:
        return str(dataset.get_data_info(index)["img_path"])
    except Exception:
        return f"image {index}"


def _metrics(evaluator: Any) -> list[Any]:
    """All metrics of an evaluator's config, without the files that they would write."""
    asked = evaluator.get("metrics", evaluator) if isinstance(evaluator, dict) else evaluator
    found = []
    for one in asked if isinstance(asked, list | tuple) else [asked]:
        if one.get("format_only"):
            raise InputError("val_evaluator.format_only measures nothing; set it to False")
        found.append(METRICS.build({k: v for k, v in one.items() if k not in _WRITES}))
    return found
