"""COCO's annotations and average precision for mmdetection.

Classes are found by name: mmdetection numbers them by the place of their categories in each file, so
that two files that list the same categories in another order would be trained on as one thing and
measured as another. A config that names `MiCLCocoMetric` imports this module, as it needs mmdetection:
`custom_imports = dict(imports=["micl_bench.openmmlab", "micl_bench.openmmlab.coco_metric"])`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import CocoMetric, coco_metric
from mmdet.registry import METRICS
from pycocotools.cocoeval import COCOeval

from micl_bench.runtime.errors import InputError

_BACKENDS = ("pycocotools", "faster_coco_eval")


class NamedCoco(COCO):
    """pycocotools' `COCO`, whose categories come in the order in which they are asked for."""

    def createIndex(self) -> None:
        """Index annotations; where it is missing, `iscrowd` is 0, as the format documents."""
        for annotation in self.dataset.get("annotations", ()):
            annotation.setdefault("iscrowd", 0)
        super().createIndex()

    def getCatIds(self, catNms: Any = (), supNms: Any = (), catIds: Any = ()) -> list[int]:
        """Ids of categories; of names, in the names' order."""
        found: list[int] = super().getCatIds(catNms, supNms, catIds)
        if isinstance(catNms, str) or not len(catNms):
            return found
        place = {name: number for number, name in enumerate(catNms)}
        return sorted(found, key=lambda number: place[self.cats[number]["name"]])


@contextmanager
def by_name() -> Iterator[None]:
    """Let data sets and metrics of mmdetection that are built meanwhile use `NamedCoco`."""
    with _replaced(CocoDataset, "COCOAPI", NamedCoco), _replaced(coco_metric, "COCO", NamedCoco):
        yield


@METRICS.register_module()
class MiCLCocoMetric(CocoMetric):
    """`val_evaluator=dict(type="MiCLCocoMetric", backend="faster_coco_eval", ann_file=..., ...)`.

    All other arguments, and the names of the metrics, are `CocoMetric`'s. With either backend the
    numbers are pycocotools', however many detections an image has; mmdetection's own
    `FasterCocoMetric` takes AP over more than the 100 best of an image and category.
    """

    def __init__(self, *args: Any, backend: str = "pycocotools", **kwargs: Any) -> None:
        """Look for the backend now, not after training; raises an InputError without it."""
        self._evaluator = evaluator(backend)
        super().__init__(*args, **kwargs)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Compute `CocoMetric`'s metrics by the chosen backend."""
        with _replaced(coco_metric, "COCOeval", self._evaluator):
            return super().compute_metrics(results)


def evaluator(backend: str) -> type:
    """The class with pycocotools' `COCOeval(truth, detections, iou_type)` that a backend offers.

    Raises:
        InputError: an unknown backend, or one that is not installed.
    """
    if backend not in _BACKENDS:
        raise InputError(
            f"unknown backend {backend!r} of COCO's evaluation; known: {', '.join(_BACKENDS)}"
        )
    if backend == "pycocotools":
        return COCOeval
    try:
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise InputError(
            f"backend 'faster_coco_eval' cannot be used ({error}): pip install faster-coco-eval, or "
            "set val_evaluator.backend=pycocotools"
        ) from error
    # Its own summary takes AP over as many detections as there are, not over pycocotools' 100.
    return type("FasterCOCOeval", (COCOeval_faster,), {"summarize": COCOeval.summarize})


@contextmanager
def _replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    """Let mmdetection's code find another thing under the one name by which it asks."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)
