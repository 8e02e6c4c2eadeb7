"""The data sets of a config, each by itself, with their classes and their ways of reading.

Wrappers (`RepeatDataset`, `ConcatDataset`) are looked through.
"""

import contextlib
import dataclasses
import functools
import importlib
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from micl_bench.openmmlab.configs import dicts
from micl_bench.runtime.errors import InputError

_HEADS = ("decode_head", "auxiliary_head", "roi_head", "bbox_head", "mask_head", "mask_iou_head")
"""The parts of a model that distinguish classes; proposals are of no class."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One data set."""

    loader: str
    """`train_dataloader` or `val_dataloader`."""
    config: dict[str, Any]
    kind: type

    @property
    def evaluated(self) -> bool:
        """True for a data set that is measured on."""
        return self.loader == "val_dataloader"

    @property
    def name(self) -> str:
        """The data set in the words of messages."""
        return "the validation set" if self.evaluated else "the training set"

    @functools.cached_property
    def data(self) -> Any:
        """The data set itself, without its pipeline; its files are not read yet."""
        # mmengine reads a text as a file of names, and warns where there is none.
        return DATASETS.build({**self.config, "lazy_init": True, "pipeline": []})

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, as `class_names`."""
        return class_names(self.data, self.name)

    @property
    def is_coco(self) -> bool:
        """True where it reads a file of COCO's instances; two derived classes read others."""
        others = ("LVISV05Dataset", "CocoPanopticDataset")
        return self.is_a("CocoDataset") and not any(map(self.is_a, others))

    @property
    def masks(self) -> bool:
        """True where its pipeline reads objects' masks."""
        return any(step.get("with_mask") for step in self._steps())

    @property
    def as_stored(self) -> bool:
        """True where its images are read as they are stored, whatever EXIF says of their orientation."""
        loads = [s for s in self._steps() if str(s.get("type")).endswith("LoadImageFromFile")]
        return bool(loads) and all(
            str(step.get("color_type", "color")).endswith(("ignore_orientation", "unchanged"))
            or step.get("imdecode_backend") in ("turbojpeg", "tifffile")
            for step in loads
        )

    def is_a(self, name: str) -> bool:
        """True where its class derives from one of that name; either library may be missing."""
        return any(kind.__name__ == name for kind in self.kind.__mro__)

    def _steps(self) -> Iterator[dict[str, Any]]:
        return dicts(self.config.get("pipeline") or [])


def parts(config: Config) -> list[Part]:
    """The data sets that are trained on, then those that are measured on.

    Raises:
        InputError: the config names something that is no data set.
    """
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
    """Let data sets and metrics be built as the runner builds them."""
    with DefaultScope.overwrite_default_scope(config.default_scope), by_name(config):
        yield


@contextlib.contextmanager
def by_name(config: Config) -> Iterator[None]:
    """Let data sets and metrics that are built meanwhile find categories by the names of classes."""
    if config.default_scope != "mmdet":
        yield
        return
    from micl_bench.openmmlab import coco_metric

    with coco_metric.by_name():
        yield


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
    # The same names in another order, where nothing is in one of them alone.
    pairs = enumerate(zip(ours, theirs, strict=False))
    moved = [f"number {n} is {one!r} and {two!r}" for n, (one, two) in pairs if one != two]
    raise InputError(
        f"{name} and {other} have different classes ({len(ours)} and {len(theirs)}: "
        f"{', '.join(only[:3] or moved[:1])}); labels are places in the list, so write the same "
        "metainfo.classes in the same order for both"
    )


def check_heads(node: Any, classes: tuple[str, ...], place: str = "model") -> None:
    """Refuse heads below a part of a model's config of another number of classes than the data has.

    Raises:
        InputError: one has.
    """
    for name in _HEADS:
        part = node.get(name)
        several = isinstance(part, list | tuple)
        for number, head in enumerate(part if several else [part]):
            if not isinstance(head, dict):
                continue
            where = f"{place}.{name}" + (f".{number}" if several else "")
            if head.get("num_classes", len(classes)) not in (None, len(classes)):
                raise InputError(
                    f"{where}.num_classes is {head['num_classes']}, the data set has {len(classes)} "
                    f"classes ({classes[0]} to {classes[-1]}); set both to the same"
                )
            check_heads(head, classes, where)


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
