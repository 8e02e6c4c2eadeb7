"""The state of a run as its folder says it: run.json, beside the records and the log.

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
from micl_bench.records.result import Record, read_result
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
    """The state of a run so far."""

    word: Word
    """`cut`: begun and not ended."""
    problem: str = ""
    """The reason why it failed, or why the files that are there do not count."""
    results: tuple[Record, ...] = ()
    seconds: float = 0.0
    """The time that it took, in seconds."""
    attempt: str = ""
    """The name of the attempt in run.json: no two attempts have the same, whatever clocks say."""


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
        """Return the folder of a run; it need not exist."""
        return self.store / run.folder

    def of(self, run: Run) -> State:
        """Return the state of a run, from its folder as it is now."""
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

    def _results(self, run: Run, note: dict[str, Any]) -> tuple[Record, ...]:
        """Return the records that a finished run left; raises an InputError where something is gone."""
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
        """Note that a run's command succeeded, and return the state.

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
        """Note that a run failed, and why, and return the state."""
        self._note(run, state="failed", problem=problem[:2000], seconds=round(seconds, 3))
        return self.of(run)

    def left_whole(self, run: Run) -> bool:
        """Return True where an interrupted run had written its record, the last thing that it does."""
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
        """Return True where the folder's content is this run's: its note says so or, where there is no
        readable one, the folder's name, which is a digest."""
        path = self.folder(run) / RUN_FILE
        key = read_note(path).get("key")
        return key == run.key or (key is None and self.folder(run).is_dir())

    def _note(self, run: Run, **more: Any) -> None:
        attempt = secrets.token_hex(8)
        content = {"key": run.key, "name": run.name, "parts": run.parts, "attempt": attempt, **more}
        text = json.dumps({**content, "command": run.command(self.store)}, indent=1)
        atomic_write(self.folder(run) / RUN_FILE, (text + "\n").encode(errors="replace"))


def records_in(folder: Path, task: str) -> tuple[Record, ...]:
    """Return the records of a task in a folder.

    Raises:
        InputError: a record is damaged.
    """
    return tuple(read_result(path) for path in sorted(folder.glob(f"{task}-*.json")))


def read_note(path: Path) -> dict[str, Any]:
    """Read a run.json; empty where there is none, or none that can be read."""
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Read a run.json; the second value says why one that is there cannot be read."""
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
