"""COCO's annotations as mmdetection gets them here: classes found by name, `iscrowd` 0 where untold.

mmdetection numbers classes by the place of their categories in each file, so that two files that list
the same categories in another order would be trained on as one thing and measured as another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import coco_metric


class NamedCoco(COCO):
    """pycocotools' `COCO`, whose categories come in the order in which they are asked for."""

    def createIndex(self) -> None:
        """Index annotations; untold, `iscrowd` is 0, as the format documents."""
        for annotation in self.dataset.get("annotations", ()):
            annotation.setdefault("iscrowd", 0)
        super().createIndex()

    def getCatIds(
        self,
        catNms: Any = (),
        supNms: Any = (),
        catIds: Any = (),
    ) -> list[int]:
        """Ids of categories; of names, in the names' order."""
        found: list[int] = super().getCatIds(catNms, supNms, catIds)
        if isinstance(catNms, str) or not len(catNms):
            return found
        place = {name: number for number, name in enumerate(catNms)}
        return sorted(found, key=lambda number: place[self.cats[number]["name"]])


@contextmanager
def by_name() -> Iterator[None]:
    """Have mmdetection's data sets and metrics that are built meanwhile read annotations so."""
    with replaced(CocoDataset, "COCOAPI", NamedCoco), replaced(coco_metric, "COCO", NamedCoco):
        yield


@contextmanager
def replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    """Have mmdetection's code find another thing under the one name by which it asks."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)
