"""The counts behind an mIoU or AP, kept for each image while the libraries evaluate.

From them come intervals and paired tests. The metrics stay the libraries' own; the same numbers made
of these counts must agree with them, or nothing is reported.

Shapes: H x W pixels, C classes, 3 rows of a matrix's entries: truth, prediction, pixels.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from numpy.typing import NDArray

from micl_bench.openmmlab.matches import Matches
from micl_bench.records.evidence.confusions import METRICS, Confusions
from micl_bench.records.evidence.detections import Detections
from micl_bench.runtime.distributed import collect_objects, from_first, rank
from micl_bench.runtime.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The last evaluation."""

    metrics: dict[str, float]
    """The library's, in percent and under our names: `mIoU`, `mAcc`, `aAcc`, or `box_AP`, `mask_AP`
    and both at IoU 0.5 and 0.75. Rounded as the library rounds."""
    intervals: dict[str, list[float]]
    """Ends of 95 % intervals by a bootstrap over images, of the metrics before they are rounded."""
    statistics: Confusions | Detections


class PixelCounts:
    """Each image's confusion matrix, of mmsegmentation's data samples, as `IoUMetric` counts them."""

    def __init__(self, metric: BaseMetric, dataset: Any) -> None:
        """Take the metric's settings and the data set's names.

        Raises:
            InputError: the metric invents a number for classes that are nowhere.
        """
        if metric.nan_to_num is not None:
            raise InputError(
                f"IoUMetric(nan_to_num={metric.nan_to_num}) lets classes that are in no image count "
                "in the mean; remove it"
            )
        self.metric, self._root = metric, getattr(dataset, "data_root", None) or None
        self._classes = tuple(dataset.metainfo["classes"])

    def kept(self, samples: Sequence[Any]) -> dict[str, NDArray[np.int64]]:
        """The entries (3, E) that are not 0 of each sample of a step, by file name."""
        return {
            Path(os.path.relpath(sample.img_path, self._root)).as_posix(): self._entries(sample)
            for sample in samples
        }

    def statistics(self, kept: dict[str, NDArray[np.int64]]) -> Confusions:
        """Join the counts of all images."""
        files = sorted(kept)
        truth_E, predicted_E, pixels_E = np.concatenate([kept[name] for name in files], axis=1)
        return Confusions(
            files=tuple(files),
            classes=self._classes,
            image_E=np.repeat(np.arange(len(files)), [kept[name].shape[1] for name in files]),
            truth_E=truth_E,
            predicted_E=predicted_E,
            pixels_E=pixels_E,
        )

    def stated(self, kept: Any, metrics: dict[str, float]) -> dict[str, float]:
        """The library's metrics by our names, `mIoU`, `mAcc`, `aAcc`; of these it may lack some."""
        prefix = f"{self.metric.prefix}/" if self.metric.prefix else ""
        # It rounds to two digits in fp32; rounding again drops the digits that conversion brings.
        return {
            name: round(float(metrics[prefix + name]), 2)
            for name in METRICS
            if prefix + name in metrics
        }

    def _entries(self, sample: Any) -> NDArray[np.int64]:
        C = len(self._classes)
        said_HW = sample.pred_sem_seg.data.squeeze().long()
        true_HW = sample.gt_sem_seg.data.squeeze().to(said_HW)
        counted_HW = true_HW != self.metric.ignore_index
        # A label of no class makes the prediction wrong, and is the truth of none.
        true_HW = torch.where((true_HW >= 0) & (true_HW < C), true_HW, C)
        pairs = (true_HW * C + said_HW)[counted_HW]
        pixels = torch.bincount(pairs, minlength=(C + 1) * C).cpu().numpy()
        (there,) = pixels.nonzero()
        return np.stack([there // C, there % C, pixels[there]])


@HOOKS.register_module()
class Evidence(Hook):
    """Keeps the counts of each image behind `IoUMetric` or `CocoMetric`, on every process."""

    def __init__(self) -> None:
        self._counts: Any = None
        self._kept: dict[Any, Any] = {}
        self._images = 0

    def before_run(self, runner: Runner) -> None:
        """Find the metric, before anything is trained: `counts_of`."""
        dataset = runner.val_loop.dataloader.dataset
        self._images = len(dataset)
        self._counts = counts_of(runner.val_loop.evaluator.metrics, dataset)

    def before_val_epoch(self, runner: Runner) -> None:
        """Forget an earlier evaluation."""
        self._kept = {}

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Keep a step's images; one that pads the last step comes twice and is kept once."""
        self._kept |= self._counts.kept(outputs or ())

    def measured(self, metrics: dict[str, float]) -> Measured:
        """The last evaluation, whose `metrics` are the library's; the same on all processes.

        Every process has to call it.

        Raises:
            InputError: the library's metrics do not agree with the counts of the images.
        """
        parts = collect_objects(self._kept)
        found: Measured | InputError | None = None
        if rank() == 0:
            try:
                found = self._measured(
                    {name: one for part in parts for name, one in part.items()}, metrics
                )
            # The others wait for an answer.
            except InputError as error:
                found = error
        found = from_first(found)
        if isinstance(found, InputError):
            raise found
        assert found is not None
        return found

    def _measured(self, kept: dict[Any, Any], metrics: dict[str, float]) -> Measured:
        if len(kept) != self._images:
            raise InputError(
                f"{len(kept)} different images were evaluated, the data set has {self._images}: "
                "the validation sampler must go through it once"
            )
        statistics, stated = agreed(self._counts, kept, metrics)
        ends = statistics.intervals()
        return Measured(
            metrics=stated,
            intervals={name: list(ends[name]) for name in stated},
            statistics=statistics,
        )


def counts_of(metrics: Sequence[BaseMetric], dataset: Any) -> PixelCounts | Matches:
    """The counts for the first metric of a known kind.

    Raises:
        InputError: none is known, or its settings make a number that single images do not give.
    """
    for metric in metrics:
        # By name, as a class of its own may be derived, and one of the libraries may be missing.
        names = {kind.__name__ for kind in type(metric).__mro__}
        if "IoUMetric" in names:
            return PixelCounts(metric, dataset)
        if "CocoMetric" in names:
            return Matches(metric, dataset)
    raise InputError(
        f"the config's evaluator is {', '.join(type(metric).__name__ for metric in metrics)}; "
        "IoUMetric or CocoMetric is needed"
    )


def agreed(
    counts: Any, kept: dict[Any, Any], metrics: dict[str, float]
) -> tuple[Confusions | Detections, dict[str, float]]:
    """The counts of all images, and the library's metrics by our names, which agree with them.

    Raises:
        InputError: they do not agree, or no metric is known.
    """
    statistics, stated = counts.statistics(kept), counts.stated(kept, metrics)
    if not stated:
        kind = type(counts.metric).__name__
        raise InputError(f"{kind} gives no metric of ours: {', '.join(metrics)}")
    statistics.check(stated)
    return statistics, stated
