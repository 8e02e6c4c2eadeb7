"""Published numbers: the ledger, read and checked row by row, and which of our numbers each is one of.

The ledger is `results/published/published_results.csv`; what the words of its protocols state, in the
vocabulary of records, is in `protocols.yaml` beside it. Nothing in either is filled in by guess.
"""

import csv
import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from micl_bench.records.names import arch_label, family, same_method
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.log import printable

__all__ = [
    "Reference",
    "arch_label",
    "family",
    "measures",
    "read_references",
    "same_method",
    "stated_protocols",
]

# In a checkout links to results/published/, in an installed package copies.
LEDGER = Path(__file__).with_name("published_results.csv")
PROTOCOLS = Path(__file__).with_name("published_protocols.yaml")
_LARGEST_BYTES = 1 << 24
_COLUMNS = (
    "method",
    "arch",
    "resolution",
    "pretrain_data",
    "pretrain_epochs",
    "task",
    "protocol",
    "metric",
    "value",
    "unit",
    "source",
    "source_detail",
)
_MAY_BE_EMPTY = ("resolution", "pretrain_epochs")

# Task key to our task, data family, and its metrics with their units.
_TOP1 = {"top1": "%"}
_AP = {"AP_box": "AP", "AP_mask": "AP"}
_TASKS: dict[str, tuple[str, str, dict[str, str]]] = {
    "imagenet_finetune": ("finetune", "imagenet", _TOP1),
    "imagenet_linear": ("linear", "imagenet", _TOP1),
    "imagenet_knn": ("knn", "imagenet", _TOP1),
    "imagenet_1pct": ("logistic", "imagenet", _TOP1),
    "imagenet_10pct": ("logistic", "imagenet", _TOP1),
    "imagenet_a": ("robustness", "imagenet-a", _TOP1),
    "imagenet_r": ("robustness", "imagenet-r", _TOP1),
    "imagenet_sketch": ("robustness", "imagenet-sketch", _TOP1),
    "imagenet_v2": ("robustness", "imagenet-v2", _TOP1),
    "imagenet_c": ("robustness", "imagenet-c", {"mCE": "%", "1-mCE": "%"}),
    "ade20k_upernet": ("ade20k", "ade20k", {"mIoU": "%", "mIoU_ms_flip": "%"}),
    "coco_maskrcnn": ("coco", "coco", _AP),
    "coco_cascade": ("coco", "coco", _AP),
    "pretrain_cost": (
        "pretrain",
        "imagenet",
        {
            "wall_hours": "hours",
            "wall_days": "days",
            "gpu_hours": "GPU-hours",
            "tpu_days": "TPU-days",
            "speedup_vs_MAE": "x",
        },
    ),
}
_LABELS = {"imagenet_1pct": "1 %", "imagenet_10pct": "10 %"}
_SEVERAL_SCALES = "mIoU_ms_flip"
_OUR_METRICS = {"AP_box": "box_AP", "AP_mask": "mask_AP", _SEVERAL_SCALES: "mIoU"}
# Worse than AlexNet is above 100; nobody publishes twice its errors.
_LARGEST = {"%": 100.0, "AP": 100.0, "mCE": 200.0}
_MOST_HOURS = 1e7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """One published number, as it was read."""

    id: str
    """`published-` and 10 hex digits of its row."""
    method: str
    arch: str
    resolution: int | None
    """Input size in pixels; None where the text read does not state it."""
    pretrain_data: str
    pretrain_epochs: float | None
    """None where the text read does not state them."""
    task: str
    """The ledger's key, such as `imagenet_finetune`."""
    protocol: str
    metric: str
    value: float
    unit: str
    source: str
    source_detail: str
    settings: dict[str, object] = dataclasses.field(default_factory=dict)
    """What the protocol's words say, as dotted names of `Result.settings` or of the recipe;
    `pretrain.` begins those of the pre-training. Empty where nothing maps."""
    text: str = ""
    """The value with the digits that were printed; empty for the value's own."""

    @property
    def bounds(self) -> tuple[float, float]:
        """What the printed number stands for: 83.6 for [83.55, 83.65)."""
        text = self.text or f"{self.value:.15g}"
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        return self.value - half, self.value + half


def read_references(path: Path | None = None) -> list[Reference]:
    """The rows of a ledger, in its order.

    Args:
        path: a CSV file of the ledger's columns; None for the one that comes with the package.

    Raises:
        InputError: it cannot be read, or a row is not one of the ledger's kind; the row is named.
    """
    return list(_shipped()) if path is None else _read(path)


def measures(reference: Reference) -> tuple[str, str, str]:
    """Our task, data family and metric that a published number is one of.

    A metric that no record holds, such as `tpu_days`, keeps the ledger's name.
    """
    task, data, _ = _TASKS[reference.task]
    stated = reference.settings.get("task", task)
    return str(stated), data, _OUR_METRICS.get(reference.metric, reference.metric)


def stated_protocols(path: Path = PROTOCOLS) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and protocol text, what the text states.

    Raises:
        InputError: the file is damaged.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {
            task: {text: dict(settings or {}) for text, settings in protocols.items()}
            for task, protocols in content.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{path} does not map protocols to settings ({error})") from error


@functools.cache
def _shipped() -> tuple[Reference, ...]:
    return tuple(_read(LEDGER))


def _read(path: Path) -> list[Reference]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError(f"it is larger than {_LARGEST_BYTES:,} bytes")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is no ledger of published numbers: {error}") from error
    if columns != _COLUMNS:
        found_ones = printable(", ".join(columns)) or "none"
        raise InputError(f"{path} has the columns {found_ones}; needed: {', '.join(_COLUMNS)}")
    stated = stated_protocols()
    found: list[Reference] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        try:
            found.append(_reference(row, stated))
            _note_once(row, line, seen)
        except ValueError as error:
            who = printable(f"{row.get('method')}, {row.get('arch')}, {row.get('task')}")
            raise InputError(f"{path}, line {line} ({who}): {error}") from error
    return found


def _reference(
    row: dict[str, str], stated: Mapping[str, Mapping[str, dict[str, Any]]]
) -> Reference:
    """One row, checked.

    Raises:
        ValueError: what is wrong with it.
    """
    _check_cells(row)
    task, metric, unit = row["task"], row["metric"], row["unit"]
    if task not in _TASKS:
        raise ValueError(f"task is {task!r}; known: {', '.join(_TASKS)}")
    units = _TASKS[task][2]
    if metric not in units:
        raise ValueError(f"metric is {metric!r}; {task} has {', '.join(units)}")
    if unit != units[metric]:
        raise ValueError(f"unit is {unit!r}; {metric} is in {units[metric]}")
    words = stated.get(task, {}).get(row["protocol"], {})
    settings: dict[str, object] = {"labels": _LABELS[task]} if task in _LABELS else {}
    for name, value in words.items():
        # What depends on the architecture is given for each.
        if not isinstance(value, dict):
            settings[name] = value
        elif row["arch"] in value:
            settings[name] = value[row["arch"]]
    if metric == _SEVERAL_SCALES:
        settings["head"] = f"{settings.get('head', 'UperNet')}, several scales"
    return Reference(
        **{name: row[name] for name in _COLUMNS if name not in (*_MAY_BE_EMPTY, "value")},
        id=f"published-{digest_json(row)[:10]}",
        resolution=_resolution(row["resolution"]),
        pretrain_epochs=_number(row["pretrain_epochs"], "pretrain_epochs", most=1e5)
        if row["pretrain_epochs"]
        else None,
        value=_number(
            row["value"],
            f"value of {metric} [{unit}]",
            most=_LARGEST.get(metric, _LARGEST.get(unit, _MOST_HOURS)),
        ),
        settings=settings,
        text=row["value"],
    )


def _check_cells(row: dict[Any, Any]) -> None:
    if None in row or None in row.values():
        raise ValueError(f"it has another number of cells than {len(_COLUMNS)}")
    for name in _COLUMNS:
        cell = row[name]
        if cell != cell.strip() or not cell.isprintable():
            raise ValueError(f"{name} {cell!r} has a control character, or a space around it")
        if not cell and name not in _MAY_BE_EMPTY:
            raise ValueError(f"{name} is empty; every number needs one")


def _resolution(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[1-9][0-9]{1,3}", text):
        raise ValueError(f"resolution is {text!r}; needed: a whole number of pixels, or nothing")
    return int(text)


def _number(text: str, name: str, *, most: float) -> float:
    """A plain decimal above 0, up to `most`."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or not 0 < float(text) <= most:
        raise ValueError(f"{name} is {text!r}; needed: a number above 0, up to {most:g}")
    return float(text)


def _note_once(row: dict[str, str], line: int, seen: dict[str, int]) -> None:
    """One source gives one number for one method under one protocol."""
    key = digest_json({k: v for k, v in row.items() if k not in ("value", "source_detail")})
    if key in seen:
        raise ValueError(f"it is about the same number as line {seen[key]}")
    seen[key] = line
