"""What is kept of an image that mmsegmentation evaluated: its confusion matrix.

Shapes: H x W pixels, C classes, 3 rows of a matrix's entries: truth, prediction, pixels.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray

from micl_bench.records.evidence.confusions import METRICS, Confusions
from micl_bench.runtime.errors import InputError

Kept = dict[str, NDArray[np.int64]]
"""By file name, the entries (3, E) that are not 0."""


class PixelCounts:
    """Of mmsegmentation's data samples, as `IoUMetric` counts them."""

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
        self.metric, self._root = metric, getattr(dataset, "data_root", None) or ""
        self._classes = tuple(dataset.metainfo["classes"])

    def kept(self, samples: Sequence[Any]) -> Kept:
        """Of the samples of one step."""
        return {self._name(sample.img_path): self._entries(sample) for sample in samples}

    def statistics(self, kept: Kept) -> Confusions:
        """Of all images."""
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

    def stated(self, kept: Kept, metrics: dict[str, float]) -> dict[str, float]:
        """The library's metrics by our names, `mIoU`, `mAcc`, `aAcc`; of these it may lack some."""
        prefix = f"{self.metric.prefix}/" if self.metric.prefix else ""
        # It rounds to two digits in fp32; rounding again drops the digits that conversion brings.
        return {
            name: round(float(metrics[prefix + name]), 2)
            for name in METRICS
            if prefix + name in metrics
        }

    def _name(self, path: str) -> str:
        return Path(os.path.relpath(path, self._root or None)).as_posix()

    def _entries(self, sample: Any) -> NDArray[np.int64]:
        C = len(self._classes)
        said_HW = sample.pred_sem_seg.data.squeeze().long()
        true_HW = sample.gt_sem_seg.data.squeeze().to(said_HW)
        counted_HW = true_HW != self.metric.ignore_index
        # A label of no class makes the prediction wrong, and is nobody's truth.
        true_HW = torch.where((true_HW >= 0) & (true_HW < C), true_HW, C)
        pairs = (true_HW * C + said_HW)[counted_HW]
        pixels = torch.bincount(pairs, minlength=(C + 1) * C).cpu().numpy()
        (there,) = pixels.nonzero()
        return np.stack([there // C, there % C, pixels[there]])
