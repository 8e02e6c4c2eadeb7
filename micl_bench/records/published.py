"""Published numbers: the ledger, read and checked row by row, with our task and metric of each row.

The ledger is `results/published/published_results.csv`. Beside it, `tasks.yaml` maps its tasks and
metrics to ours, and `protocols.yaml` maps the words of its protocols to settings in the vocabulary of
records. Nothing in them is filled in by guess.
"""

import csv
import dataclasses
import functools
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml

from micl_bench.records.declared import Better
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.log import printable
from micl_bench.runtime.validate import built, one_line

# In a checkout links to results/published/, in an installed package copies.
LEDGER = Path(__file__).with_name("published_results.csv")
PROTOCOLS = Path(__file__).with_name("published_protocols.yaml")
TASKS = Path(__file__).with_name("published_tasks.yaml")
_LARGEST_BYTES = 1 << 24
_COLUMNS = (
    *("method", "arch", "resolution", "pretrain_data", "pretrain_epochs", "task", "protocol"),
    *("metric", "value", "unit", "source", "source_detail"),
)
_MAY_BE_EMPTY = ("resolution", "pretrain_epochs")

_MOST_HOURS = 1e7

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LedgerMetric:
    """A metric of the ledger in `tasks.yaml`."""

    unit: str
    header: str
    """Its name in pictures."""
    ours: str = ""
    """The same metric of our records; empty where it has the same name."""
    better: Better = ""
    most: float = _MOST_HOURS
    """The largest number that it can have."""
    scales: str = ""
    """The number of scales in words, where it is not one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LedgerTask:
    """A task of the ledger in `tasks.yaml`."""

    task: str
    """Our name of it."""
    data: str
    """The family of data sets, as `names.family` has it."""
    metrics: dict[str, LedgerMetric]
    place: int = 0
    """Its place in a report: that in the file."""
    short: str = ""
    """Its name in pictures of published numbers alone; empty where there is no such picture."""
    labels: str = ""
    """The share of the training labels that was used; empty for all, or where there are none."""


@functools.cache
def ledger_tasks() -> dict[str, LedgerTask]:
    """Return the tasks of the ledger by its names of them, in the order of a report."""
    found = _read_yaml(TASKS, dict[str, LedgerTask])
    places = enumerate(found.items())
    return {name: dataclasses.replace(one, place=place) for place, (name, one) in places}


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
    """Epochs of pre-training; None where the text read does not state them."""
    task: str
    """The ledger's key, such as `imagenet_finetune`."""
    protocol: str
    metric: str
    value: float
    unit: str
    source: str
    source_detail: str
    settings: dict[str, object] = dataclasses.field(default_factory=dict)
    """The protocol's settings, as dotted names of `Result.settings` or of the recipe; those of the
    pre-training begin with `pretrain.`. Empty where nothing maps."""
    text: str = ""
    """The value in the digits that were printed; empty for the value's own."""

    @property
    def kind(self) -> LedgerTask:
        """Return its task in `tasks.yaml`."""
        return ledger_tasks()[self.task]

    @property
    def facts(self) -> LedgerMetric:
        """Return its metric in `tasks.yaml`."""
        return self.kind.metrics[self.metric]

    @property
    def shown(self) -> str:
        """Return the value as it was printed."""
        return self.text or f"{self.value:g}"

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the range that the printed number stands for: [83.55, 83.65) for 83.6."""
        text = self.text or f"{self.value:.15g}"
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        return self.value - half, self.value + half


def read_references(path: Path | None = None) -> list[Reference]:
    """Return the rows of a ledger, in its order.

    Args:
        path: a CSV file of the ledger's columns; None for the one that comes with the package.

    Raises:
        InputError: the file cannot be read, or a row is not one of the ledger's kind; the row is named.
    """
    return list(_shipped()) if path is None else _read(path)


def measures(reference: Reference) -> tuple[str, str, str]:
    """Return our task, data family and metric of a published number.

    A metric that no record holds, such as `tpu_days`, keeps the ledger's name.
    """
    kind = reference.kind
    stated = reference.settings.get("task", kind.task)
    return str(stated), kind.data, reference.facts.ours or reference.metric


@functools.cache
def stated_protocols() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the settings of each protocol's text, by task and text."""
    return _read_yaml(PROTOCOLS, dict[str, dict[str, dict[str, Any]]])


@functools.cache
def _shipped() -> tuple[Reference, ...]:
    return tuple(_read(LEDGER))


def _read_yaml(path: Path, kind: type[T]) -> T:
    try:
        return built(kind, yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(one_line(f"{path}: {error}")) from error


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
        found = printable(", ".join(columns)) or "none"
        raise InputError(f"{path} has the columns {found}; needed: {', '.join(_COLUMNS)}")
    references: list[Reference] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        try:
            _check_cells(row)
            references.append(_reference(row))
            # One source gives one number for one method under one protocol.
            key = digest_json({k: v for k, v in row.items() if k not in ("value", "source_detail")})
            if (before := seen.setdefault(key, line)) != line:
                raise ValueError(f"it is about the same number as line {before}")
        except ValueError as error:
            who = printable(f"{row.get('method')}, {row.get('arch')}, {row.get('task')}")
            raise InputError(f"{path}, line {line} ({who}): {error}") from error
    return references


def _check_cells(row: dict[Any, Any]) -> None:
    """Raise a ValueError for a row of another table."""
    if None in row or None in row.values():
        raise ValueError(f"it has another number of cells than {len(_COLUMNS)}")
    for name, cell in row.items():
        if cell != cell.strip() or not cell.isprintable():
            raise ValueError(f"{name} {cell!r} has a control character, or a space around it")
        if not cell and name not in _MAY_BE_EMPTY:
            raise ValueError(f"{name} is empty; every number needs one")


def _reference(row: dict[str, str]) -> Reference:
    """Return a row as a number; raise a ValueError for a value that its column cannot have."""
    task, metric, unit, size = row["task"], row["metric"], row["unit"], row["resolution"]
    if task not in (known := ledger_tasks()):
        raise ValueError(f"task is {task!r}; known: {', '.join(known)}")
    if metric not in (metrics := known[task].metrics):
        raise ValueError(f"metric is {metric!r}; {task} has {', '.join(metrics)}")
    declared = metrics[metric]
    if unit != declared.unit:
        raise ValueError(f"unit is {unit!r}; {metric} is in {declared.unit}")
    if size and not re.fullmatch(r"[1-9][0-9]{1,3}", size):
        raise ValueError(f"resolution is {size!r}; needed: a whole number of pixels, or nothing")
    settings: dict[str, object] = {"labels": known[task].labels} if known[task].labels else {}
    for name, value in stated_protocols().get(task, {}).get(row["protocol"], {}).items():
        # A setting that depends on the architecture has a value for each.
        if not isinstance(value, dict):
            settings[name] = value
        elif row["arch"] in value:
            settings[name] = value[row["arch"]]
    if declared.scales:
        settings["head"] = f"{settings.get('head', 'UperNet')}, {declared.scales}"
    epochs = row["pretrain_epochs"]
    words = {name: text for name, text in row.items() if name not in (*_MAY_BE_EMPTY, "value")}
    return Reference(
        **words,
        id=f"published-{digest_json(row)[:10]}",
        resolution=int(size) if size else None,
        pretrain_epochs=_number(epochs, "pretrain_epochs", most=1e5) if epochs else None,
        value=_number(row["value"], f"value of {metric} [{unit}]", most=declared.most),
        settings=settings,
        text=row["value"],
    )


def _number(text: str, name: str, *, most: float) -> float:
    """Read a plain decimal above 0, up to `most`."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or not 0 < float(text) <= most:
        raise ValueError(f"{name} is {text!r}; needed: a number above 0, up to {most:g}")
    return float(text)
