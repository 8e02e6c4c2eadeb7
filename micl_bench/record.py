"""Result records: what was measured, on what, with what, by which command.

One JSON file a result, written to a temporary name and renamed, never edited afterwards.
Everything a number needs to be traced is inside: data and checkpoint digests, the resolved recipe,
seed, command, code version and environment.
"""

import dataclasses
import functools
import json
import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from micl_bench.errors import InputError
from micl_bench.files import atomic_write, digest_json

# Four of them make a file name, which may have 255 characters.
_LONGEST_WORD = 50

SCHEMA = "micl-bench/result/2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """The images a number was measured on."""

    name: str
    """Short name as tables print it, such as `imagenet` or `embedded-A`."""
    split: str
    images: int
    digest: str
    """SHA-256 over the sorted relative file names and sizes."""
    stands_for: str = ""
    """The public set an embedded one stands in for; empty for a real set. Tables must say it."""


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement. Metric values are percentages unless the name says otherwise."""

    task: str
    protocol: str
    """One line for a table's caption: everything a reader needs to compare the number."""
    method: str
    """What made the weights, as tables print it: `MiCL`, `random weights`, ..."""
    arch: str
    metrics: dict[str, float]
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
    intervals: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    """Metric to the ends of its 95 % interval."""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What stands behind the metrics: a whole grid, other readings, figures by corruption."""
    artifacts: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name to path, relative to the record's own folder."""
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name to SHA-256, of the artifacts that the metrics are computed from."""

    @functools.cached_property
    def id(self) -> str:
        """`task-data-method-digest`: readable, unique to the record's content."""
        words = (self.task, self.data.name, self.method, digest_json(_content(self))[:10])
        return "-".join(
            re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:_LONGEST_WORD] for word in words
        )


def write_result(result: Result, folder: Path) -> Path:
    """Write `<folder>/<id>.json` atomically and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.id}.json"
    content = {"schema": SCHEMA, "id": result.id, **_content(result)}
    atomic_write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return path


def read_result(path: Path) -> Result:
    """Read and validate one record.

    Raises:
        InputError: the file is no record of this schema, or its content does not match its id or
            its fingerprint.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (schema := content.pop("schema")) != SCHEMA:
            raise InputError(
                f"{path} has schema {schema!r}, this version reads {SCHEMA!r}; measure again, or "
                "read it with the version that wrote it"
            )
        identity = content.pop("id")
        data, checkpoint = (
            DataSet(**content.pop("data")),
            CheckpointInfo(**content.pop("checkpoint")),
        )
        train = content.pop("train")
        result = Result(
            data=data,
            checkpoint=checkpoint,
            train=DataSet(**train) if train else None,
            **content,
        )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a result record: {error}") from error
    if result.id != identity:
        raise InputError(f"{path} was changed after it was written: its content has id {result.id}")
    if result.fingerprint != digest_json(result.settings):
        raise InputError(f"{path} has a fingerprint that is not the digest of its settings")
    return result


def read_results(folder: Path) -> list[tuple[Path, Result]]:
    """All records below a folder, oldest first; other JSON files are passed over.

    Raises:
        InputError: the folder is missing or holds no record, or a record is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"no results folder at {folder}")
    paths = [path for path in sorted(folder.rglob("*.json")) if _claims_schema(path)]
    if not paths:
        raise InputError(f"no result record below {folder}; `micl-bench eval` writes them")
    return sorted(((path, read_result(path)) for path in paths), key=lambda pair: pair[1].start)


def utc_now() -> str:
    """The present moment as records write it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _claims_schema(path: Path) -> bool:
    try:
        head = path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return False
    return '"schema": "micl-bench/result/' in head


def _content(result: Result) -> dict[str, Any]:
    return dataclasses.asdict(result)


def visible_path(path: str | os.PathLike[str]) -> str:
    """A path as records show it: relative to the working folder where it lies below it."""
    absolute = Path(path).resolve()
    return os.path.relpath(absolute) if absolute.is_relative_to(Path.cwd()) else str(absolute)
