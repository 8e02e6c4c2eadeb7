"""Plans of suites in a store of results, by which reports list the runs that are missing.

<store>/plans/<suite>.json     the latest plan of a suite; `suite run` writes it, atomically
<store>/.../run.json           in each folder that a suite made for a run
"""

import dataclasses
import functools
import json
import re
import secrets
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from msgspec import Meta

from micl_bench.records.store import Damaged
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.log import printable, say
from micl_bench.runtime.validate import read_json

RUN_FILE = "run.json"
PLANS_FOLDER = "plans"

State = Literal["done", "failed", "to do"]
Text = Annotated[str, Meta(max_length=20_000, description="a text of at most 20,000 letters")]

_LONGEST_NOTE = 1 << 20
_RUNS = "a list of at most 20,000 runs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run that a suite file asks for."""

    name: Text
    """`entry/method/values`, unique in its suite."""
    task: Text
    """`pretrain`, a task of `micl-bench eval`, or `data` for a step that makes data."""
    title: Text = ""
    """The task as headings print it; empty for its name."""
    method: Text
    seed: int
    """The seed; -1 where the suite leaves it to the recipe."""
    data: Text
    folder: Text
    """The run's folder relative to the store, with `/`."""
    state: State
    problem: Text = ""
    """The reason why it failed, or was left out because another one failed."""
    command: Text = ""

    def __post_init__(self) -> None:
        folder = PurePosixPath(self.folder)
        if folder.is_absolute() or ".." in folder.parts or not folder.parts:
            raise InputError(f"folder {self.folder[:50]!r} leads out of the store")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All runs of a suite file, as they stood when it was last run."""

    schema: Literal["micl-bench/plan/1"] = "micl-bench/plan/1"
    suite: Text
    runs: Annotated[tuple[PlannedRun, ...], Meta(max_length=20_000, description=_RUNS)]

    @functools.cached_property
    def folders(self) -> frozenset[str]:
        """Return the folders of all runs."""
        return frozenset(run.folder for run in self.runs)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """Return the names of all runs."""
        return frozenset(run.name for run in self.runs)


def read_plans(store: Path) -> tuple[list[Plan], list[Damaged]]:
    """Return the latest plan of each suite of a store, by name, and the files that are damaged plans."""
    plans, damaged = [], []
    for path in sorted((store / PLANS_FOLDER).glob("*.json")):
        try:
            plans.append(read_json(path, Plan))
        except InputError as error:
            reason = str(error).removeprefix(f"{path}: ")
            words = f"no plan of a suite: {reason}; remove it, or run its suite again"
            damaged.append(Damaged(path=path, reason=words))
    return plans, damaged


def write_plan(store: Path, plan: Plan) -> Path:
    """Write a suite's plan in the place of its former one, and return its path."""
    path = plan_path(store, plan.suite)
    if path.is_dir():
        # It is no plan of ours; a folder that may be somebody's is moved, not removed.
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.aside")
        path.rename(aside)
        say(printable(f"{path} is a folder where a plan belongs; it is {aside.name} now"))
    content = dataclasses.asdict(plan)
    atomic_write(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def plan_path(store: Path, suite: str) -> Path:
    """Return the path of a suite's plan; no name leads out of the folder."""
    name = re.sub(r"[^\w-]+", "_", suite).strip("_")[:50] or "_"
    return store / PLANS_FOLDER / f"{name}.json"


def is_stale(store: Path, record: Path, plans: list[Plan]) -> bool:
    """Return whether a suite made the record's folder and now plans the run of that name elsewhere.

    A run that no plan names at all, such as another seed's or another suite's, is not stale.
    """
    folder = record.parent
    if not plans or not folder.is_relative_to(store) or not (folder / RUN_FILE).is_file():
        return False
    place = folder.relative_to(store).as_posix()
    if any(place in plan.folders for plan in plans):
        return False
    try:
        name = read_json(folder / RUN_FILE, dict[str, Any], most=_LONGEST_NOTE).get("name")
    except InputError:
        return False
    return isinstance(name, str) and any(name in plan.names for plan in plans)
