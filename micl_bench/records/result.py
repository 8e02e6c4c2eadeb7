"""Result records: what was measured, on what, with what, by which command.

One JSON file a result, written to a temporary name and linked to its own, never edited afterwards.
Everything a number needs to be traced is inside: data and checkpoint digests, the trainings behind
the weights, the resolved recipe, seed, command, code version and environment.

Files are immutable and named by their content, so any number of processes may write into one folder,
on a shared disk too.
"""

import dataclasses
import functools
import json
import math
import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from micl_bench.records import schema
from micl_bench.records.declared import About, Number
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json, write_once
from micl_bench.runtime.validate import Line

# Four of them make a file name, which may have 255 characters.
_LONGEST_WORD = 50
_LONGEST_METHOD = 100

SCHEMA = "micl-bench/result/4"
_LARGEST_BYTES = 1 << 26
_DEEPEST = 64
_LARGEST_WHOLE = 1 << 63
_CONTAINERS = frozenset((dict, list))
_MEASURED = ("metrics", "details")
"""Fields in which a number may be undefined."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """The images a number was measured on."""

    name: str
    """Short name as tables print it, such as `imagenet` or `embedded-A`."""
    split: str
    images: int
    digest: str
    """SHA-256 over names and sizes of the images and, of segmentation and detection, the content of
    the annotation files and masks."""
    stands_for: str = ""
    """The public set an embedded one stands in for; empty for a real set. Tables must say it."""
    left_out: str = dataclasses.field(default="", compare=False)
    """One line on the files in the folder that were not read, with their number; empty for none. Not
    compared: the digest says which images were read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One training, or drawing, that weights went through, as their file says it.

    What it cost is not in the file, so that the same training gives the same bytes: its own record
    tells (`report.lineage` finds it).
    """

    task: Line
    """`initialise`, `pretrain`, `finetune` or `linear`."""
    method: Line
    fingerprint: str
    """SHA-256 of its settings: stages of one fingerprint differ by their seed alone."""
    seed: int
    epochs: float
    data: Line
    """Name of the training images; empty for none."""
    data_digest: str
    settings: dict[str, Any]
    stated: bool = False
    """The user stated it on the command line or in a suite; the file does not say."""

    @classmethod
    def of(
        cls,
        task: str,
        method: str,
        settings: dict[str, Any],
        *,
        seed: int,
        epochs: float,
        data: DataSet,
    ) -> "Stage":
        """The training of those settings on some images."""
        return cls(
            task=task,
            method=method,
            fingerprint=digest_json(settings),
            seed=seed,
            epochs=epochs,
            data=data.name,
            data_digest=data.digest,
            settings=settings,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """Where the evaluated weights came from."""

    source: str
    """What the user named: a file, `timm:NAME` or `random:ARCH`."""
    format: str
    digest: str
    """SHA-256 of the file, or of all weights where there is no file."""
    branch: str = ""
    """Which of several networks in the file; empty where there is one."""
    network: str = ""
    """Sizes, with what no tensor's shape tells: the number of heads, the norms' epsilon."""
    positions: str = ""
    """How position embeddings reached the input's grid; empty where they are as stored."""
    normalisation: str = ""
    """Mean and standard deviation of the pixels that the network was trained on, and was given."""
    guesses: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """What neither the file nor the user states and was therefore assumed, one short phrase each, such
    as `2 heads (width / 64)`; empty where nothing was. Tables must mark the number. Not compared: what
    was assumed is in the other fields, as if it were stated."""
    origin: tuple[Stage, ...] = dataclasses.field(default=(), compare=False)
    """What made the weights, oldest first; empty where the file does not tell. Not compared: the
    digest says which weights they are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement, with all that a reader needs to rank and print it."""

    task: str
    about: About
    """What the task's declaration states for reports."""
    protocol: str
    """One line for a table's caption: everything a reader needs to compare the number."""
    method: str
    """What made the weights, as tables print it: `MiCL`, `random weights`, ..."""
    arch: str
    metrics: dict[str, Number]
    """By name, in the order of tables."""
    data: DataSet
    checkpoint: CheckpointInfo
    recipe: dict[str, Any]
    recipe_digest: str
    seed: int
    command: str
    code_version: str
    environment: dict[str, str]
    start: str
    """UTC, ISO 8601."""
    seconds: float
    device_hours: float
    train: DataSet | None = None
    """The labelled images that a classifier was fitted on, or neighbours taken from."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Every setting that moves the number, and nothing else: no seed, no path, no worker count."""
    fingerprint: str = ""
    """SHA-256 of `settings`: numbers of different fingerprints are of different protocols."""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What stands behind the metrics: a whole grid, other readings, figures by corruption."""
    artifacts: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name to path, relative to the record's own folder."""
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name to SHA-256, of the artifacts that the metrics are computed from."""

    @property
    def values(self) -> dict[str, float]:
        """The value of each metric, in its unit; NaN where it is undefined."""
        return {name: number.value for name, number in self.metrics.items()}

    @property
    def quoted(self) -> list[str]:
        """The metrics of a verdict: those that people quote, or else the first that is ranked."""
        quoted = [name for name, number in self.metrics.items() if number.quoted]
        return quoted or [name for name, one in self.metrics.items() if one.direction][:1]

    @property
    def headline(self) -> str:
        """The first metric of a verdict, or else the first of all."""
        return (self.quoted or list(self.metrics))[0]

    @property
    def place(self) -> tuple[int, str]:
        """Sorts records by their tasks, as reports show them."""
        return (self.about.place, self.task)

    def as_stage(self, *, epochs: float) -> Stage:
        """The training that this record is of, for the file that it leaves behind."""
        data = self.train or self.data
        return Stage.of(
            self.task, self.method, self.settings, seed=self.seed, epochs=epochs, data=data
        )

    @functools.cached_property
    def id(self) -> str:
        """`task-data-method-digest`: readable, unique to the record's content."""
        return _identity(self, digest_json(_content(self)))


def write_result(result: Result, folder: Path) -> Path:
    """Write `<folder>/<id>.json` atomically and return its path; a record that is there stays as it is.

    Safe beside other writers, of the same record too.

    Raises:
        ValueError: what no reader would take for a record, such as an infinite metric.
    """
    name, text = record_file(result)
    write_once(folder / name, text)
    return folder / name


def record_file(result: Result) -> tuple[str, bytes]:
    """Name and content of a record's file.

    Raises:
        ValueError: what no reader would take for a record, such as an infinite metric.
    """
    name = f"{result.id}.json"
    content = {"schema": SCHEMA, "id": result.id, **_content(result)}
    try:
        text = (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
        _parsed(Path(name), text)
    except ValueError as error:
        raise ValueError(f"no record can be made of this: {error}") from error
    return name, text


def read_result(path: Path) -> Result:
    """Read and validate one record.

    Raises:
        InputError: the file is no record of this schema, or its content does not match its id or
            its fingerprint.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError(f"it is larger than {_LARGEST_BYTES:,} bytes")
        return _parsed(path, path.read_bytes())
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a result record: {error}") from error


def _parsed(path: Path, text: bytes) -> Result:
    content = json.loads(text.decode(), parse_int=_whole, parse_constant=_no_number)
    if not isinstance(content, dict):
        raise ValueError("its JSON is no object")
    if (found := content.pop("schema")) != SCHEMA:
        raise InputError(
            f"{path} has schema {found!r}, this version reads {SCHEMA!r}; measure again, or "
            "read it with the version that wrote it"
        )
    identity = content.pop("id")
    _check_depth(content)
    result = schema.built(Result, _with_undefined(content))
    _check_values(result)
    if identity != (own := _identity(result, digest_json(content))):
        raise InputError(f"{path} was changed after it was written: its content has id {own}")
    if result.fingerprint != digest_json(result.settings):
        raise InputError(f"{path} has a fingerprint that is not the digest of its settings")
    # The digest of what was read is that of what it holds: it need not be computed again.
    result.__dict__["id"] = identity
    return result


def _with_undefined(content: dict[str, Any]) -> dict[str, Any]:
    """A record's content in which the value of a metric that is null is NaN."""
    metrics = content.get("metrics")
    if type(metrics) is not dict:
        return content
    return {**content, "metrics": {name: _defined(one) for name, one in metrics.items()}}


def _defined(number: Any) -> Any:
    is_null = type(number) is dict and "value" in number and number["value"] is None
    return {**number, "value": math.nan} if is_null else number


def _no_number(text: str) -> float:
    """Raises ValueError: JSON has no NaN and no infinity, though Python would read them."""
    raise ValueError(f"it holds {text}, which is not valid JSON; what is undefined is null")


def _whole(text: str) -> int:
    """A whole number as JSON has it; raises ValueError of one that no float and no array can hold."""
    if abs(number := int(text)) >= _LARGEST_WHOLE:
        raise ValueError("it has a whole number of more than 64 bits")
    return number


def _check_depth(content: Any) -> None:
    """Raises ValueError where whoever walks through it would run out of stack."""
    level = [content]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _CONTAINERS
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _check_values(result: Result) -> None:
    """Raises ValueError for what has the right type and still makes no sense."""
    datetime.fromisoformat(result.start)
    if not result.metrics:
        raise ValueError("metrics is empty")
    for name, number in result.metrics.items():
        if (number.low is None) != (number.high is None):
            raise ValueError(f"metrics.{name} must have both ends of its interval, or none")
        if math.isnan(number.value) != bool(number.undefined):
            raise ValueError(f"metrics.{name}.value must be null exactly where undefined says why")
    if min(result.seconds, result.device_hours, result.data.images) < 0:
        raise ValueError("seconds, device_hours or data.images is negative")


def require_method(name: str) -> None:
    """Raise an InputError of a method's name that no table could print; empty is none."""
    if len(name) > _LONGEST_METHOD or not name.isprintable():
        raise InputError(f"--method is one line of at most {_LONGEST_METHOD} characters")


def utc_now() -> str:
    """The present moment as records write it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _content(result: Result) -> dict[str, Any]:
    """As JSON has it, which knows no NaN."""
    content = dataclasses.asdict(result)
    return {**content, **{name: _without_nan(content[name]) for name in _MEASURED}}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _identity(result: Result, digest: str) -> str:
    words = (result.task, result.data.name, result.method, digest[:10])
    return "-".join(map(name_part, words))


def name_part(word: str) -> str:
    """A word as it stands in the names of files: short, and of letters that every file system has."""
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:_LONGEST_WORD]


def visible_path(path: str | os.PathLike[str]) -> str:
    """A path as records show it: relative to the working folder where it lies below it."""
    absolute = Path(path).resolve()
    return os.path.relpath(absolute) if absolute.is_relative_to(Path.cwd()) else str(absolute)
