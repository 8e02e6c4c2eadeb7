"""Result records: a measurement with its data, weights, recipe and command.

One JSON file per result, written to a temporary name and linked to its own, never edited afterwards.
Everything that traces a number is inside. A file's name, which is the record's id, ends in the digest
of its bytes: one that was edited is found by it, and any number of processes may write into one folder,
on a shared disk too.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from micl_bench.records.declared import About, Number
from micl_bench.records.weights import CheckpointInfo, Stage
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json, write_once
from micl_bench.runtime.validate import built, one_line, parsed, require_plain
from micl_bench.runtime.values import shown, without_nan

# Four of them make a file name, which may have 255 characters.
_LONGEST_WORD = 50
_LONGEST_METHOD = 100

SCHEMA = "micl-bench/result/4"
_LARGEST_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """The images that a number was measured on."""

    name: str
    """Short name in tables, such as `imagenet` or `embedded-A`."""
    split: str
    images: int
    digest: str
    """SHA-256 over names and sizes of the images, and over the content of annotation files and masks."""
    stands_for: str = ""
    """The public set that an embedded one stands in for; empty for a real set. Tables must print it."""
    left_out: str = dataclasses.field(default="", compare=False)
    """One line on the files in the folder that were not read. Not compared, as the digest is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement, with all that a reader needs to rank and print it."""

    task: str
    about: About
    """The task's facts for reports."""
    protocol: str
    """One line for a table's caption: everything a reader needs to compare the number."""
    method: str
    """The method that made the weights, as tables print it: `MiCL`, `random weights`, ..."""
    arch: str
    metrics: dict[str, Number]
    """Numbers by name, in the order of tables."""
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
    """Figures behind the metrics: a whole grid, other readings, numbers by corruption."""
    artifacts: dict[str, str] = dataclasses.field(default_factory=dict)
    """Paths by name, relative to the record's own folder."""
    evidence: str = ""
    """The kind of the artefact `evidence`, which is kept of each image; empty for none."""
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 by name, of the artifacts that the metrics are computed from."""

    @property
    def values(self) -> dict[str, float]:
        """Return the value of each metric, in its unit; NaN where it is undefined."""
        return {name: number.value for name, number in self.metrics.items()}

    @property
    def quoted(self) -> list[str]:
        """Return the metrics of a verdict: those that people quote, or else the first that is ranked."""
        quoted = [name for name, number in self.metrics.items() if number.quoted]
        return quoted or [name for name, one in self.metrics.items() if one.direction][:1]

    @property
    def headline(self) -> str:
        """Return the first metric of a verdict, or else the first of all."""
        return (self.quoted or list(self.metrics))[0]

    @property
    def place(self) -> tuple[int, str]:
        """Return a key that sorts records by their tasks, as reports show them."""
        return (self.about.place, self.task)

    def as_stage(self, *, epochs: float) -> Stage:
        """Return the training that this record is of, for the file that it leaves behind."""
        data = self.train or self.data
        return Stage.of(
            self.task,
            self.method,
            self.settings,
            seed=self.seed,
            epochs=epochs,
            data=data.name,
            data_digest=data.digest,
        )

    @functools.cached_property
    def id(self) -> str:
        """Return `task-data-method-digest`, which is unique to the bytes of its file."""
        return _identity(self, _bytes_of(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record(Result):
    """A result as it was read, which knows its file."""

    path: Path

    @classmethod
    def of(cls, result: Result, path: Path) -> "Record":
        """Return the result that the file at `path` holds."""
        fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(Result)}
        return cls(path=path, **fields)

    @functools.cached_property
    def id(self) -> str:
        """Return the name of its file: `read_result` takes no other."""
        return self.path.stem

    def __hash__(self) -> int:
        return hash(self.path)


def write_result(result: Result, folder: Path) -> Path:
    """Write `<folder>/<id>.json` atomically and return its path; a record that is there stays as it is.

    Raises:
        ValueError: as `record_file`.
    """
    name, text = record_file(result)
    write_once(folder / name, text)
    return folder / name


def record_file(result: Result) -> tuple[str, bytes]:
    """Return the name and the content of a record's file.

    Raises:
        ValueError: no reader would take the result for a record, as one with an infinite metric.
    """
    try:
        require_plain(_content(result))
        text = _bytes_of(result)
        return f"{_identity(_parsed(text), text)}.json", text
    except ValueError as error:
        raise ValueError(f"no record can be made of this: {error}") from error


def read_result(path: Path) -> Record:
    """Read and validate one record.

    Raises:
        InputError: the file is no record of this schema, or its name or its fingerprint is not that of
            its content.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise InputError(f"it is larger than {_LARGEST_BYTES:,} bytes")
        text = path.read_bytes()
        result = _parsed(text)
    except (OSError, InputError) as error:
        raise InputError(one_line(f"{path} is not a result record: {error}")) from error
    # The digest is of the bytes as they are: a field that the file lacks has its default in the result.
    if path.stem != (name := _identity(result, text)):
        raise InputError(
            f"{path} was changed after it was written, or renamed: its content has id {name}"
        )
    return Record.of(result, path)


def _bytes_of(result: Result) -> bytes:
    return (json.dumps(_content(result), indent=2, ensure_ascii=False) + "\n").encode()


def _content(result: Result) -> dict[str, Any]:
    content = dataclasses.asdict(result)
    content.pop("path", None)
    return {"schema": SCHEMA, **without_nan(content)}


def _parsed(text: bytes) -> Result:
    content = built(dict[str, Any], parsed(text))
    if (found := content.pop("schema", None)) != SCHEMA:
        raise InputError(
            f"it has schema {shown(found)}, this version reads {SCHEMA!r}; measure again, or read it "
            "with the version that wrote it"
        )
    metrics = content.get("metrics")
    for number in metrics.values() if isinstance(metrics, dict) else ():
        if isinstance(number, dict) and number.get("value", 0) is None:
            number["value"] = math.nan
    result = built(Result, content)
    _check_values(result)
    return result


def _check_values(result: Result) -> None:
    """Raise an InputError for a value that has the right type and still makes no sense."""
    try:
        datetime.fromisoformat(result.start)
    except ValueError as error:
        raise InputError(f"$.start is {shown(result.start)}; needed: a time in ISO 8601") from error
    if not result.metrics:
        raise InputError("$.metrics is empty")
    for name, number in result.metrics.items():
        if (number.low is None) != (number.high is None):
            raise InputError(f"$.metrics.{name} must have both ends of its interval, or none")
        if math.isnan(number.value) != bool(number.undefined):
            raise InputError(
                f"$.metrics.{name}.value must be null exactly where undefined says why"
            )
    if min(result.seconds, result.device_hours, result.data.images) < 0:
        raise InputError("$.seconds, $.device_hours or $.data.images is negative")
    if result.fingerprint != digest_json(result.settings):
        raise InputError("$.fingerprint is not the digest of its settings")


def require_method(name: str) -> None:
    """Raise an InputError for a method's name that no table can print; empty is allowed."""
    if len(name) > _LONGEST_METHOD or not name.isprintable():
        raise InputError(f"--method is one line of at most {_LONGEST_METHOD} characters")


def utc_now() -> str:
    """Return the present moment as records write it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _identity(result: Result, text: bytes) -> str:
    digest = hashlib.sha256(text).hexdigest()[:10]
    return "-".join(map(name_part, (result.task, result.data.name, result.method, digest)))


def name_part(word: str) -> str:
    """Return a word for the names of files: short, in characters that every file system has."""
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:_LONGEST_WORD]


def visible_path(path: str | os.PathLike[str]) -> str:
    """Return a path as records show it: relative to the working folder where it lies below it."""
    absolute = Path(path).resolve()
    return os.path.relpath(absolute) if absolute.is_relative_to(Path.cwd()) else str(absolute)
