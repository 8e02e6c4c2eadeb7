"""What became of a run, as its folder says: run.json, beside the records and the log.

    {"key": ..., "name": ..., "state": "begun" | "done" | "failed", "problem": ..., "parts": {...},
     "records": [ids], "seconds": ..., "attempt": ..., "command": ...}

A run is done where run.json says so and its records and products are there. The folder's name is a
digest of all that the outcome depends on: another recipe is another folder.
"""

import dataclasses
import json
import secrets
import shutil
from pathlib import Path
from typing import Any, Literal

from micl_bench.records.plans import RUN_FILE
from micl_bench.records.result import Result, read_result
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.log import printable, say
from micl_bench.runtime.validate import read_json
from micl_bench.suites.run import Product, Run

LOG_FILE = "log.txt"
_LONGEST_FILE = 1 << 20

Word = Literal["done", "failed", "cut", "new"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """What became of a run so far."""

    word: Word
    """`cut`: begun and not ended."""
    problem: str = ""
    """Why it failed, or why what is there does not count."""
    results: tuple[Result, ...] = ()
    seconds: float = 0.0
    """That it took."""
    attempt: str = ""
    """Which attempt it is of, as run.json says: no two have the same name, whatever clocks say."""


class States:
    """The runs of one plan in one store."""

    def __init__(self, store: Path, runs: list[Run]) -> None:
        self.store = store
        products: dict[str, set[str]] = {}
        for run in runs:
            for word in run.words:
                if isinstance(word, Product):
                    products.setdefault(word.run.key, set()).add(word.below)
        self._products = products

    def folder(self, run: Run) -> Path:
        """Of a run, whether it is there or not."""
        return self.store / run.folder

    def of(self, run: Run) -> State:
        """What became of a run, by what is in its folder now."""
        path = self.folder(run) / RUN_FILE
        note, damaged = _read(path)
        if damaged:
            return State(word="cut", problem=f"its {RUN_FILE} is damaged ({damaged})")
        if note.get("key") != run.key:
            return State(word="new")
        attempt = str(note.get("attempt", ""))
        if note.get("state") == "failed":
            return State(word="failed", problem=str(note.get("problem", "")), attempt=attempt)
        if note.get("state") != "done":
            return State(word="cut", problem="it was cut")
        try:
            results = self._results(run, note)
        except InputError as error:
            return State(word="cut", problem=str(error))
        return State(word="done", results=results, seconds=_seconds(note), attempt=attempt)

    def _results(self, run: Run, note: dict[str, Any]) -> tuple[Result, ...]:
        """The records that a finished run left; raises an InputError where something is gone."""
        folder, listed = self.folder(run), note.get("records")
        if not isinstance(listed, list) or (run.task != "data" and not listed):
            raise InputError(f"{folder / RUN_FILE} names no record")
        for product in self._products.get(run.key, ()):
            if not (run.out(self.store) / product).exists():
                raise InputError(f"{run.out(self.store) / product} is gone")
        results = records_in(folder, run.task)
        if lost := {str(name) for name in listed} - {result.id for result in results}:
            raise InputError(f"the record {min(lost)} is gone")
        for path in (
            folder / result.artifacts.get(n, n) for result in results for n in result.digests
        ):
            if not path.exists():
                raise InputError(f"{path}, the evidence of its number, is gone")
        return results

    def begin(self, run: Run) -> None:
        """Note that a run begins; what an earlier one left goes, unless the command goes on from it."""
        folder = self.folder(run)
        self._without_damage(folder / RUN_FILE)
        if not (run.resumes and self._is_of(run)):
            remove(folder)
        for path in folder.glob(f"{run.task}-*.json"):
            # A record that is whole ends a run (see `left_whole`); this one is not.
            remove(path)
        self._note(run, state="begun")

    def _without_damage(self, note: Path) -> None:
        """Remove a run.json that cannot be read, and say so; the folder's name says whose it is."""
        if damaged := _read(note)[1]:
            say(printable(f"{note} is damaged ({damaged}), and written anew"))
            remove(note)

    def finish(self, run: Run, seconds: float) -> State:
        """Note that a run's command succeeded.

        Raises:
            InputError: it left no record, or a damaged one.
        """
        results = records_in(self.folder(run), run.task)
        if run.task != "data" and not results:
            raise InputError("it ended well and left no record")
        ids = [result.id for result in results]
        self._without_damage(self.folder(run) / RUN_FILE)
        self._note(run, state="done", records=ids, seconds=round(seconds, 3))
        return self.of(run)

    def fail(self, run: Run, problem: str, seconds: float) -> State:
        """Note that a run failed, and why."""
        self._note(run, state="failed", problem=problem[:2000], seconds=round(seconds, 3))
        return self.of(run)

    def left_whole(self, run: Run) -> bool:
        """Whether a cut run had written its record, the last thing that it does."""
        if run.task == "data" or not run.resumes:
            return False
        if not self._is_of(run):
            return False
        try:
            ids = [result.id for result in records_in(self.folder(run), run.task)]
            return bool(self._results(run, {"records": ids}))
        except InputError:
            return False

    def _is_of(self, run: Run) -> bool:
        """Whether what lies in a run's folder is this run's: its note says so, or, where there is none
        that can be read, the folder's name, which is a digest."""
        path = self.folder(run) / RUN_FILE
        key = read_note(path).get("key")
        return key == run.key or (key is None and self.folder(run).is_dir())

    def _note(self, run: Run, **more: Any) -> None:
        attempt = secrets.token_hex(8)
        content = {"key": run.key, "name": run.name, "parts": run.parts, "attempt": attempt, **more}
        text = json.dumps({**content, "command": run.command(self.store)}, indent=1)
        atomic_write(self.folder(run) / RUN_FILE, (text + "\n").encode(errors="replace"))


def records_in(folder: Path, task: str) -> tuple[Result, ...]:
    """The records of a task in a folder.

    Raises:
        InputError: a damaged one.
    """
    return tuple(read_result(path) for path in sorted(folder.glob(f"{task}-*.json")))


def read_note(path: Path) -> dict[str, Any]:
    """A run.json; empty where there is none, or none that can be read."""
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """A run.json, and why it cannot be read where it is there."""
    try:
        return read_json(path, dict[str, Any], most=_LONGEST_FILE), ""
    except InputError as error:
        return {}, str(error).removeprefix(f"{path}: ") if path.exists() else ""


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _seconds(note: dict[str, Any]) -> float:
    seconds = note.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e9 else 0.0
