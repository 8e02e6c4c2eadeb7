"""The provenance of a measurement: the parts of a record that are the same for every task."""

import dataclasses
import functools
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from micl_bench.records.declared import Task
from micl_bench.records.result import Result, utc_now
from micl_bench.records.weights import CheckpointInfo
from micl_bench.runtime.files import digest_json

_PACKAGES = (
    *("numpy", "pillow", "scikit-learn", "timm", "torch", "torchvision"),
    *("onedl-mmcv", "onedl-mmdetection", "onedl-mmengine", "onedl-mmsegmentation"),
)
# A repository on a disk that does not answer must not keep a record from being written.
_GIT_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """The measured checkpoint and the recipe: fields of `Result` that all metrics of a run share."""

    method: str
    arch: str
    checkpoint: CheckpointInfo
    recipe: dict[str, Any]
    seed: int


class Measurement:
    """A clock that starts when it is made; `result` stops it and fills in everything but the number."""

    def __init__(self, *, command: str) -> None:
        self.command = command
        self.start, self._clock = utc_now(), time.monotonic()

    def began(self, start: str, *, spent: float = 0.0) -> None:
        """Note that an earlier process began it, and how many seconds were spent on it before."""
        self.start, self._clock = start, self._clock - spent

    @property
    def elapsed(self) -> float:
        """Return the seconds since the measurement began."""
        return time.monotonic() - self._clock

    def result(
        self,
        task: Task,
        subject: Subject,
        metrics: Mapping[str, float],
        *,
        settings: Mapping[str, Any],
        intervals: Mapping[str, Sequence[float]] = MappingProxyType({}),
        undefined: Mapping[str, str] = MappingProxyType({}),
        seconds: float | None = None,
        device_seconds: float | None = None,
        **fields: Any,
    ) -> Result:
        """Return the record of one measurement.

        Args:
            task: it declares every metric.
            metrics: by name, in the metric's unit; NaN where these images do not define one.
            settings: as `Result.settings`, without the task's name; the fingerprint is made of them.
            intervals: both ends at 95 %, of the metrics that have an interval.
            undefined: the reason why a metric is NaN; in general words where none is given.
            seconds: the time of a resumed run, longer than this process's; None for the clock's.
            device_seconds: the time of all devices, where several worked on it; None for one device.
            fields: all others of `Result`.

        Raises:
            InputError: the task does not declare a metric.
        """
        took = self.elapsed if seconds is None else seconds
        whole = {"task": task.name, **settings}
        numbers = {
            name: task.number(
                name, value, interval=intervals.get(name, ()), undefined=undefined.get(name, "")
            )
            for name, value in metrics.items()
        }
        return Result(
            task=task.name,
            about=task.about,
            metrics=numbers,
            **vars(subject),
            recipe_digest=digest_json(subject.recipe),
            settings=whole,
            fingerprint=digest_json(whole),
            command=self.command,
            code_version=code_version(),
            environment=environment(),
            start=self.start,
            seconds=round(took, 3),
            device_hours=round((took if device_seconds is None else device_seconds) / 3600, 6),
            **fields,
        )


def command_of(*words: object, options: Mapping[str, object]) -> str:
    """Return the command line of a call in Python.

    Args:
        options: values by option; an empty one is left out, True is a switch, a list is repeated.
    """
    line = ["micl-bench", *map(str, words)]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                line.append(name)
            elif one is not None and one is not False and one != "":
                line += [name, str(one)]
    return shlex.join(line)


def environment() -> dict[str, str]:
    """Return versions and hardware that can move a number or its time."""
    found = dict(_installed())
    if torch := sys.modules.get("torch"):
        # Sums of parts differ in their last bits by how many parts there are.
        found["threads"] = str(torch.get_num_threads())
    if gpus := _gpus():
        found["gpus"] = gpus
    return found


@functools.cache
def _installed() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "processor": _processor(), "cores": str(os.cpu_count())}


@functools.cache
def code_version() -> str:
    """Return the package's version, and in a checkout its commit, `+changes` where files differ."""
    version = metadata.version("micl-bench")
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return version
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changes = "+changes" if _git(root, "status", "--porcelain", "-uno") else ""
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version} ({commit}{changes})"


def _git(root: Path, *arguments: str) -> str:
    command = ("git", "-C", str(root), *arguments)
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS
    ).stdout.strip()


def _gpus() -> str:
    """Return the number and names of GPUs, as NVIDIA's driver lists them."""
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
