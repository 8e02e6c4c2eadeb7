"""`MiCLCocoMetric`: mmdetection's `CocoMetric`, with a choice of who computes it.

A config that names it imports this module too, as it needs mmdetection:
`custom_imports = dict(imports=["micl_bench.openmmlab", "micl_bench.openmmlab.coco_metric"])`.

With either backend the numbers are pycocotools', whatever the number of detections an image. Those of
mmdetection's own `FasterCocoMetric` are not: it takes AP over more than the 100 best detections of an
image and category, where there are more.
"""

from typing import Any

from mmdet.evaluation.metrics import CocoMetric, coco_metric
from mmdet.registry import METRICS

from micl_bench.openmmlab.coco_api import replaced
from micl_bench.openmmlab.coco_backends import evaluator


@METRICS.register_module()
class MiCLCocoMetric(CocoMetric):
    """`val_evaluator=dict(type="MiCLCocoMetric", backend="faster_coco_eval", ann_file=..., ...)`.

    All other arguments, and the names of the metrics, are `CocoMetric`'s.
    """

    def __init__(self, *args: Any, backend: str = "pycocotools", **kwargs: Any) -> None:
        """Look for the backend now, not after training.

        Raises:
            InputError: unknown backend, or one that is not installed.
        """
        self._evaluator = evaluator(backend)
        super().__init__(*args, **kwargs)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """As `CocoMetric`, by the chosen backend."""
        with replaced(coco_metric, "COCOeval", self._evaluator):
            return super().compute_metrics(results)
