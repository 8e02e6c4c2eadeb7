"""What stands behind an mIoU or AP, kept for each image while the libraries evaluate.

From it come intervals and paired tests. The metrics stay the libraries' own; the same numbers made
of what was kept must agree with them, or nothing is reported.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from micl_bench.openmmlab.matches import Matches
from micl_bench.openmmlab.pixel_counts import PixelCounts
from micl_bench.records.evidence.confusions import Confusions
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
    """Bootstrap over images, of the metrics before they are rounded: `Counted.intervals`."""
    statistics: Confusions | Detections


@HOOKS.register_module()
class Evidence(Hook):
    """Keeps what `IoUMetric` or `CocoMetric` measured of each image, on every process."""

    def __init__(self) -> None:
        self._counts: PixelCounts | Matches | None = None
        self._kept: dict[Any, Any] = {}
        self._images = 0

    def before_run(self, runner: Runner) -> None:
        """Find the metric, before anything is trained.

        Raises:
            InputError: the config's evaluator has neither metric, or one with settings under which
                its number cannot be made of single images.
        """
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
        assert self._counts is not None
        self._kept |= self._counts.kept(outputs or ())

    def measured(self, metrics: dict[str, float]) -> Measured:
        """What `metrics`, the library's of the last evaluation, rest on; the same on all processes.

        Every process has to call it.

        Raises:
            InputError: the library's metrics do not agree with what was kept of the images.
        """
        parts = collect_objects(self._kept)
        found: Measured | InputError | None = None
        if rank() == 0:
            try:
                found = self._measured(
                    {name: kept for part in parts for name, kept in part.items()}, metrics
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
        assert self._counts is not None
        if len(kept) != self._images:
            raise InputError(
                f"{len(kept)} different images were evaluated, the data set has {self._images}: "
                "the validation sampler must go through it once"
            )
        statistics = self._counts.statistics(kept)
        stated = self._counts.stated(kept, metrics)
        if not stated:
            raise InputError(f"the evaluator gives no metric of ours: {', '.join(metrics)}")
        statistics.check(stated)
        ends = statistics.intervals()
        return Measured(
            metrics=stated,
            intervals={name: list(ends[name]) for name in stated},
            statistics=statistics,
        )


def counts_of(metrics: Sequence[BaseMetric], dataset: Any) -> PixelCounts | Matches:
    """What is kept for the first metric that is known.

    Raises:
        InputError: none is, or it has settings under which its number cannot be made of single images.
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
