"""What became of a run, as its folder says: run.json, beside the records and the log.

    {"key": ..., "name": ..., "state": "begun" | "done" | "failed", "problem": ..., "parts": {...},
     "records": [ids], "seconds": ..., "command": ...}

A run is done where run.json says so and its records and products are there. The folder's name is a
digest of all that the outcome depends on: another recipe is another folder.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Literal

from micl_bench.errors import InputError
from micl_bench.files import atomic_write
from micl_bench.plans import RUN_FILE
from micl_bench.record import Result, read_result
from micl_bench.suite.run import Product, Run

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
    noted: float = 0.0
    """When run.json was written, in seconds since 1970."""


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
        note = read_note(path)
        if note.get("key") != run.key:
            return State(word="new")
        noted = _written_at(path)
        if note.get("state") == "failed":
            return State(word="failed", problem=str(note.get("problem", "")), noted=noted)
        if note.get("state") != "done":
            return State(word="cut", problem="it was cut")
        try:
            results = self._results(run, note)
        except InputError as error:
            return State(word="cut", problem=str(error))
        return State(word="done", results=results, seconds=_seconds(note), noted=noted)

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
        if not (run.resumes and read_note(folder / RUN_FILE).get("key") == run.key):
            shutil.rmtree(folder, ignore_errors=True)
        for path in folder.glob(f"{run.task}-*.json"):
            # A record that is whole ends a run (see `left_whole`); this one is not.
            path.unlink()
        self._note(run, state="begun")

    def finish(self, run: Run, seconds: float) -> State:
        """Note that a run's command succeeded.

        Raises:
            InputError: it left no record, or a damaged one.
        """
        results = records_in(self.folder(run), run.task)
        if run.task != "data" and not results:
            raise InputError("it ended well and left no record")
        ids = [result.id for result in results]
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
        if read_note(self.folder(run) / RUN_FILE).get("key") != run.key:
            return False
        try:
            ids = [result.id for result in records_in(self.folder(run), run.task)]
            return bool(self._results(run, {"records": ids}))
        except InputError:
            return False

    def _note(self, run: Run, **more: Any) -> None:
        content = {"key": run.key, "name": run.name, "parts": run.parts, **more}
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
    try:
        if path.stat().st_size > _LONGEST_FILE:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _seconds(note: dict[str, Any]) -> float:
    seconds = note.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e9 else 0.0


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
