"""A suite file: which evaluations, of which checkpoints, with which values, each a run of its own.

YAML. What stands at the top holds for every entry that does not say otherwise:

    task: ade20k
    recipe: downstream/ade20k_upernet_vit_b16.py
    data: data/ADEChallengeData2016
    checkpoints: {MAE: "timm:vit_base_patch16_224.mae"}
    entries:
      - name: learning-rate
        matrix: {optim_wrapper.optimizer.lr: [1e-4, 3e-4]}

An entry gives one run for each checkpoint and each combination of the matrix's values.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from micl_bench import plugins
from micl_bench.errors import InputError

_LONGEST_FILE = 1 << 20
_LONGEST_NAME = 150
_MOST_RUNS = 10_000
_MOST_PROCESSES = 1024
_SCALARS = (str, int, float, bool)


@dataclasses.dataclass(kw_only=True)
class Entry:
    """Evaluations that share a task."""

    name: str
    """Of its folder, and in the table."""
    task: str
    data: str
    checkpoints: dict[str, str]
    """What the table calls a method, to its checkpoint: a file, `timm:NAME`, `random:ARCH`, ..."""
    recipe: str = ""
    overrides: list[str] = dataclasses.field(default_factory=list)
    """`a.b=value` for each run, as `--set` takes them."""
    matrix: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    """Key to the values that are tried."""
    processes: int = 1
    """Started by torchrun where they are more than one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One `micl-bench eval`."""

    name: str
    """Its folder below the suite's: `entry/method/key=value,key=value`."""
    entry: str
    task: str
    method: str
    values: tuple[tuple[str, str], ...]
    """Key and value of what differs between the runs of an entry."""
    arguments: tuple[str, ...]
    """After `micl-bench`."""
    folder: Path
    processes: int


def read_suite(path: Path, out: Path, assignments: Sequence[str] = ()) -> list[Run]:
    """All runs of a suite file, in its order.

    Args:
        out: folder that each run has its own folder in.
        assignments: `key=value`, for what stands at the file's top.

    Raises:
        InputError: no such file, or one that is not as described above.
    """
    content = _read(path, assignments)
    known = {field.name for field in dataclasses.fields(Entry)} - {"name"}
    _require_keys(content, known | {"entries"}, f"{path}")
    entries = content.pop("entries", None)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} must have `entries`, a list with one or more of them")
    runs: dict[str, Run] = {}
    for number, raw in enumerate(entries, start=1):
        for run in _runs(_entry(raw, content, f"{path}, entry {number}"), out):
            if run.name in runs:
                raise InputError(f"{path} has two runs called {run.name!r}; rename an entry")
            if len(runs) == _MOST_RUNS:
                raise InputError(f"{path} asks for more than {_MOST_RUNS:,} runs")
            runs[run.name] = run
    return list(runs.values())


def _read(path: Path, assignments: Sequence[str]) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"no suite file at {path}; ready ones are in downstream/suites/")
    for assignment in assignments:
        if "=" not in assignment:
            raise InputError(f"--set {assignment!r} has no '='; write --set key=value")
    try:
        if path.stat().st_size > _LONGEST_FILE:
            raise InputError(f"{path} is larger than {_LONGEST_FILE:,} bytes: no suite file")
        text = path.read_text(encoding="utf-8")
        # A few lines of aliases of aliases would unfold to more than any memory.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InputError(f"{path} has a YAML alias (*name); write the value itself")
        config = OmegaConf.create(text)
        if not isinstance(config, DictConfig):
            raise InputError(f"{path} is no suite file: it must be a mapping with `entries`")
        changed = OmegaConf.merge(config, OmegaConf.from_dotlist(list(assignments)))
        content: Any = OmegaConf.to_container(changed, resolve=False)
    except InputError:
        raise
    except (
        OmegaConfBaseException,
        yaml.YAMLError,
        ValueError,
        TypeError,
        AssertionError,
        RecursionError,
    ) as error:
        raise InputError(f"{path} is no suite file: {_first_line(error)}") from error
    return {str(key): value for key, value in content.items()}


def _entry(raw: Any, shared: dict[str, Any], place: str) -> Entry:
    if not isinstance(raw, dict):
        raise InputError(f"{place} is not a mapping of keys to values")
    fields = dataclasses.fields(Entry)
    _require_keys(raw, {field.name for field in fields}, place)
    content = {**shared, **raw}
    missing = [
        field.name
        for field in fields
        if field.name not in content
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{place} has no {', '.join(missing)}, nor has the top of the file")
    if isinstance(content.get("matrix"), dict):
        # OmegaConf would refuse anything but lists in words of its own.
        for key, tried in content["matrix"].items():
            if not isinstance(tried, list):
                raise InputError(_not_listed(place, key))
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Entry), content)
        values: Any = OmegaConf.to_container(merged, resolve=False)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise InputError(f"{place}: {_first_line(error)}") from error
    entry = Entry(**values)
    _check(entry, place)
    return entry


def _require_keys(content: dict[Any, Any], known: set[str], place: str) -> None:
    if unknown := [str(key) for key in content if key not in known]:
        raise InputError(f"{place} has {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _check(entry: Entry, place: str) -> None:
    tasks = plugins.names("tasks")
    if entry.task not in tasks:
        raise InputError(f"{place} has task {entry.task!r}; known: {', '.join(tasks)}")
    if not entry.checkpoints:
        raise InputError(f"{place} has no checkpoint")
    if not 1 <= entry.processes <= _MOST_PROCESSES:
        raise InputError(
            f"{place} has {entry.processes} processes; give 1 to {_MOST_PROCESSES:,}, all on this "
            "machine"
        )
    for override in entry.overrides:
        if "=" not in override:
            raise InputError(f"{place}: override {override!r} is not of the form a.b=value")
    for key, values in entry.matrix.items():
        if not values or not all(_is_plain(value) for value in values):
            raise InputError(_not_listed(place, key))
    words = [entry.name, entry.data, entry.recipe, *entry.overrides, *entry.matrix]
    words += itertools.chain.from_iterable(entry.checkpoints.items())
    words += [str(value) for values in entry.matrix.values() for value in values]
    for word in words:
        # A leading dash would be taken for an option; ${...} would read the environment.
        if word.startswith("-") and not _is_number(word):
            raise InputError(f"{place}: {word!r} begins with a dash, as options do")
        if "${" in word or not word.isprintable():
            raise InputError(f"{place}: {word!r} refers to something else; write the value itself")


def _not_listed(place: str, key: object) -> str:
    return f"{place}: matrix {key} must list words, numbers or lists of them"


def _is_plain(value: Any) -> bool:
    return isinstance(value, _SCALARS) or (
        isinstance(value, list) and all(isinstance(element, _SCALARS) for element in value)
    )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _runs(entry: Entry, out: Path) -> Iterator[Run]:
    short = _short_keys(list(entry.matrix))
    for method, checkpoint in entry.checkpoints.items():
        for combination in itertools.product(*entry.matrix.values()):
            chosen = [(key, str(v)) for key, v in zip(entry.matrix, combination, strict=True)]
            values = tuple((short[key], value) for key, value in chosen)
            words = [entry.name, method, ",".join(f"{key}={value}" for key, value in values)]
            name = "/".join(_file_name(word) for word in words if word)
            folder = out / name
            arguments = ["eval", entry.task, "--checkpoint", checkpoint, "--data", entry.data]
            arguments += ["--recipe", entry.recipe] if entry.recipe else []
            for override in [*entry.overrides, *(f"{key}={value}" for key, value in chosen)]:
                arguments += ["--set", override]
            yield Run(
                name=name,
                entry=entry.name,
                task=entry.task,
                method=method,
                values=values,
                arguments=(*arguments, "--method", method, "--out", str(folder)),
                folder=folder,
                processes=entry.processes,
            )


def _short_keys(keys: list[str]) -> dict[str, str]:
    """The last word of each dotted key, or the whole key where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)
    }


def _file_name(word: str) -> str:
    """A word as part of a path, still readable: no separator, no hidden name."""
    name = re.sub(r"[^\w.,=+-]+", "_", word).strip("._") or "_"
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"the run {word!r} has too long a name for a folder; try shorter values")
    return name


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
