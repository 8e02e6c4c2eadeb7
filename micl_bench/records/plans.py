"""What suites planned in a store of results, for whoever reports what is there and what is missing.

<store>/plans/<suite>.json     the latest plan of a suite; `suite run` writes it, atomically
<store>/.../run.json           in each folder that a suite made for a run
"""

import dataclasses
import functools
import json
import re
import secrets
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from micl_bench.records.store import Damaged
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.log import printable, say

RUN_FILE = "run.json"
PLANS_FOLDER = "plans"
SCHEMA = "micl-bench/plan/1"

State = Literal["done", "failed", "to do"]

_LONGEST_FILE = 64 << 20
_LONGEST_NOTE = 1 << 20
_MOST_RUNS = 20_000
_LONGEST_TEXT = 20_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run that a suite file asks for."""

    name: str
    """`entry/method/values`, unique in its suite."""
    task: str
    """`pretrain`, a task of `micl-bench eval`, or `data` for a step that makes data."""
    title: str = ""
    """The task as headings print it; empty for its name."""
    method: str
    seed: int
    """-1 where the suite leaves it to the recipe."""
    data: str
    folder: str
    """Relative to the store, with `/`."""
    state: State
    problem: str = ""
    """Why it failed, or was left out because another one failed."""
    command: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All runs of a suite file, as they stood when it was last run."""

    suite: str
    runs: tuple[PlannedRun, ...]

    @functools.cached_property
    def folders(self) -> frozenset[str]:
        """Of all runs."""
        return frozenset(run.folder for run in self.runs)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """Of all runs."""
        return frozenset(run.name for run in self.runs)


def read_plans(store: Path) -> tuple[list[Plan], list[Damaged]]:
    """The latest plan of each suite of a store, by name, and the files that would be one."""
    plans, damaged = [], []
    for path in sorted((store / PLANS_FOLDER).glob("*.json")):
        try:
            plans.append(_read(path))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            words = f"no plan of a suite: {reason[:200]}; remove it, or run its suite again"
            damaged.append(Damaged(path=path, reason=words))
    return plans, damaged


def write_plan(store: Path, plan: Plan) -> Path:
    """Write a suite's plan in the place of its former one."""
    content = {
        "schema": SCHEMA,
        "suite": plan.suite,
        "runs": [dataclasses.asdict(run) for run in plan.runs],
    }
    path = plan_path(store, plan.suite)
    if path.is_dir():
        # No plan of ours; what may be somebody's is moved, not removed.
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.aside")
        path.rename(aside)
        say(printable(f"{path} is a folder where a plan belongs; it is {aside.name} now"))
    atomic_write(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def plan_path(store: Path, suite: str) -> Path:
    """Where a suite's plan is; no name leads out of the folder."""
    name = re.sub(r"[^\w-]+", "_", suite).strip("_")[:50] or "_"
    return store / PLANS_FOLDER / f"{name}.json"


def is_stale(store: Path, record: Path, plans: list[Plan]) -> bool:
    """Whether a suite made the record's folder, and now plans the run of that name in another one.

    A run that no plan names at all, such as another seed's or another suite's, is as good as ever.
    """
    folder = record.parent
    if not plans or not folder.is_relative_to(store) or not (folder / RUN_FILE).is_file():
        return False
    place = folder.relative_to(store).as_posix()
    if any(place in plan.folders for plan in plans):
        return False
    name = _name_of(folder / RUN_FILE)
    return any(name in plan.names for plan in plans)


def _name_of(note: Path) -> str | None:
    """The run's name in a run.json; None in one that is not to be read."""
    try:
        if note.stat().st_size > _LONGEST_NOTE:
            return None
        content = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


def _read(path: Path) -> Plan:
    if path.stat().st_size > _LONGEST_FILE:
        raise ValueError(f"larger than {_LONGEST_FILE:,} bytes")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("its JSON is no object")
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema {content['schema']!r}, needed is {SCHEMA!r}")
    if not isinstance(content["runs"], list) or len(content["runs"]) > _MOST_RUNS:
        raise ValueError(f"runs must be a list of at most {_MOST_RUNS:,}")
    runs = tuple(_run(raw) for raw in content["runs"])
    return Plan(suite=_text(content["suite"]), runs=runs)


def _run(raw: Any) -> PlannedRun:
    if not isinstance(raw, dict):
        raise ValueError("a run that is not a mapping")
    values: dict[str, Any] = dict(raw)
    seed, state = values.pop("seed"), values.pop("state")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"seed {seed!r} is not a whole number")
    if state not in get_args(State):
        raise ValueError(f"state {state!r}; known: {', '.join(get_args(State))}")
    texts = {key: _text(value) for key, value in values.items()}
    run = PlannedRun(seed=seed, state=state, **texts)
    folder = PurePosixPath(run.folder)
    if folder.is_absolute() or ".." in folder.parts or not folder.parts:
        raise ValueError(f"folder {run.folder!r} leads out of the store")
    return run


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{str(value)[:50]!r} is not a text of at most {_LONGEST_TEXT:,} letters")
    return value
