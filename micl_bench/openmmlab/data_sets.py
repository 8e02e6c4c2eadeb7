"""The data sets of a config, each by itself, and what their settings say of classes and of reading.

Wrappers (`RepeatDataset`, `ConcatDataset`) are looked through.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from micl_bench.openmmlab.configs import dicts
from micl_bench.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Part:
    """One data set."""

    loader: str
    """`train_dataloader` or `val_dataloader`."""
    config: dict[str, Any]
    kind: type

    @property
    def evaluated(self) -> bool:
        """Whether it is measured on."""
        return self.loader == "val_dataloader"

    @property
    def name(self) -> str:
        """As messages call it."""
        return "the validation set" if self.evaluated else "the training set"

    @property
    def masks(self) -> bool:
        """Whether its pipeline reads objects' masks."""
        return any(step.get("with_mask") for step in self._steps())

    @property
    def as_stored(self) -> bool:
        """Whether its images are read as they are stored, whatever EXIF says of their orientation."""
        loads = [s for s in self._steps() if str(s.get("type")).endswith("LoadImageFromFile")]
        return bool(loads) and all(
            str(step.get("color_type", "color")).endswith(("ignore_orientation", "unchanged"))
            or step.get("imdecode_backend") in ("turbojpeg", "tifffile")
            for step in loads
        )

    def built(self, **options: Any) -> Any:
        """The data set itself; `options` take the place of the config's."""
        return DATASETS.build({**self.config, **options})

    def _steps(self) -> Iterator[dict[str, Any]]:
        return dicts(self.config.get("pipeline") or [])


def parts(config: Config) -> list[Part]:
    """All that are trained on, then all that are measured on."""
    importlib.import_module(f"{config.default_scope}.datasets")
    found = []
    for loader in ("train_dataloader", "val_dataloader"):
        for leaf in _leaves(config[loader]["dataset"]):
            kind = leaf.get("type")
            if isinstance(kind, str):
                with DATASETS.switch_scope_and_registry(None) as registry:
                    kind = registry.get(kind)
            if not isinstance(kind, type):
                raise InputError(
                    f"{loader}.dataset has type {leaf.get('type')}, which is no data set"
                )
            found.append(Part(loader, leaf, kind))
    return found


@contextlib.contextmanager
def in_scope(config: Config) -> Iterator[None]:
    """Where data sets and metrics can be built as the runner builds them."""
    with DefaultScope.overwrite_default_scope(config.default_scope), by_name(config):
        yield


@contextlib.contextmanager
def by_name(config: Config) -> Iterator[None]:
    """Where categories are found by the names of classes, in data sets and metrics built meanwhile."""
    if config.default_scope != "mmdet":
        yield
        return
    from micl_bench.openmmlab import coco_api

    with coco_api.by_name():
        yield


def is_a(part: Part, name: str) -> bool:
    """Whether its class derives from one of that name; either library may be missing."""
    return any(kind.__name__ == name for kind in part.kind.__mro__)


def is_coco(part: Part) -> bool:
    """Whether it reads a file of COCO's instances; two that derive from it read others."""
    others = ("LVISV05Dataset", "CocoPanopticDataset")
    return is_a(part, "CocoDataset") and not any(is_a(part, name) for name in others)


def class_names(dataset: Any, name: str) -> tuple[str, ...]:
    """The names of a data set's classes, in order.

    Raises:
        InputError: it has none, one of them twice, or no list of names.
    """
    classes = (getattr(dataset, "metainfo", None) or {}).get("classes")
    if not isinstance(classes, list | tuple) or not classes:
        raise InputError(
            f"{name} has no list of classes (metainfo.classes is {classes!r}); write the names of its "
            "classes in order: metainfo=dict(classes=('...', '...'))"
        )
    names = tuple(map(str, classes))
    if doubled := sorted({one for one in names if names.count(one) > 1}):
        raise InputError(f"{name} has a class twice: {', '.join(doubled[:3])}; name each once")
    return names


def check_same_classes(
    ours: tuple[str, ...], name: str, theirs: tuple[str, ...], other: str
) -> None:
    """Refuse classes of two data sets that differ in name or order: labels are places in the list.

    Raises:
        InputError: they do.
    """
    if ours == theirs:
        return
    only = [f"{one!r} only in {name}" for one in ours if one not in theirs]
    only += [f"{one!r} only in {other}" for one in theirs if one not in ours]
    place = next(
        (n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), 0
    )
    how = ", ".join(only[:3]) or f"number {place} is {ours[place]!r} and {theirs[place]!r}"
    raise InputError(
        f"{name} and {other} have different classes ({len(ours)} and {len(theirs)}: {how}); labels are "
        "places in the list, so write the same metainfo.classes in the same order for both"
    )


def check_heads(model: Any, classes: tuple[str, ...]) -> None:
    """Refuse heads of another number of classes than the data has.

    Raises:
        InputError: one has.
    """
    for place, head in _heads(model):
        number = head.get("num_classes")
        if number is not None and number != len(classes):
            raise InputError(
                f"{place}.num_classes is {number}, the data set has {len(classes)} classes "
                f"({classes[0]} to {classes[-1]}); set both to the same"
            )


def _heads(node: Any, place: str = "model") -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of a model's config that tell classes apart; proposals are of no class."""
    names = ("decode_head", "auxiliary_head", "roi_head", "bbox_head", "mask_head", "mask_iou_head")
    for name in names:
        part = node.get(name)
        for number, one in enumerate(part if isinstance(part, list | tuple) else [part]):
            if isinstance(one, dict):
                where = (
                    f"{place}.{name}.{number}"
                    if isinstance(part, list | tuple)
                    else f"{place}.{name}"
                )
                yield where, one
                yield from _heads(one, where)


def _leaves(dataset: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(dataset, dict):
        raise InputError(
            f"a data set of the config is {type(dataset).__name__}, no dict with a type"
        )
    if "dataset" in dataset:
        yield from _leaves(dataset["dataset"])
    elif "datasets" in dataset:
        for one in dataset["datasets"]:
            yield from _leaves(one)
    else:
        yield dataset
