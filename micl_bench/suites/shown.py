"""The plan of a suite as a table: what is done, what is to do and why, and the commands."""

import dataclasses
from pathlib import Path

from micl_bench.records.plans import RUN_FILE, plan_path, read_plans
from micl_bench.runtime.log import clock, printable
from micl_bench.runtime.terminal import table_text
from micl_bench.suites.run import Run
from micl_bench.suites.runs import Outcome
from micl_bench.suites.state import State, States, read_note

_HEADER = ("state", "run", "folder", "why")
_PARTS = {
    "command": "its command changed",
    "recipe": "its recipe changed",
    "checkpoint": "its checkpoint's content changed",
    "needs": "what it needs changed",
}


@dataclasses.dataclass(frozen=True)
class _Row:
    run: Run
    state: str
    why: str


def shown_plan(suite: str, runs: list[Run], store: Path) -> str:
    """A row for each run, the counts, and the commands of what is left to do."""
    states = States(store, runs)
    before = _before(suite, store)
    found = {run.key: states.of(run) for run in runs}
    rows = [_row(run, found[run.key], before, store) for run in runs]
    table = [(row.state, row.run.name, str(row.run.folder), row.why) for row in rows]
    lines = [table_text(_HEADER, table, words=range(4))]
    left = [row.run for row in rows if row.state != "done"]
    to_do = f"{len(left)} to do:" if left else "nothing to do"
    lines += ["", f"{len(runs) - len(left)} of {len(runs)} done; {to_do}"]
    lines += [printable(run.command(store)) for run in left]
    return "\n".join(lines)


def _row(run: Run, state: State, before: dict[str, str], store: Path) -> _Row:
    if state.word == "done":
        return _Row(run, "done", f"took {clock(state.seconds)}" if state.seconds else "")
    if state.word == "failed":
        return _Row(run, "failed", state.problem)
    if state.word == "cut":
        goes_on = "goes on" if run.resumes else "starts over"
        return _Row(run, "to do", f"{state.problem}; it {goes_on}")
    old = before.get(run.name, "")
    if old and old != run.folder.as_posix():
        return _Row(run, "to do", _changed(run, read_note(store / old / RUN_FILE), old))
    return _Row(run, "to do", "new")


def _changed(run: Run, note: dict[str, object], old: str) -> str:
    """In what a run differs from the one of the same name that the store's last plan had."""
    parts = note.get("parts")
    if not isinstance(parts, dict):
        return "new"
    # What lies below these is made of lists and texts, as JSON is.
    changed = [words for name, words in _PARTS.items() if parts.get(name) != run.parts[name]]
    return f"{', '.join(changed) or 'it changed'}; the old result stays in {old}"


def _before(suite: str, store: Path) -> dict[str, str]:
    """Name to folder, of the last plan."""
    path = plan_path(store, suite)
    last = [plan for plan in read_plans(store)[0] if plan_path(store, plan.suite) == path]
    return {run.name: run.folder for plan in last for run in plan.runs}


def failures(outcomes: list[Outcome], command: str) -> str:
    """What failed, why, and how to go on."""
    failed = [outcome for outcome in outcomes if outcome.problem and not outcome.left_out]
    left_out = sum(outcome.left_out for outcome in outcomes)
    lines = [f"failed: {outcome.run.name}: {outcome.problem}" for outcome in failed]
    if left_out:
        lines.append(f"left out, because what they need is not there: {left_out}")
    lines.append(f"to go on, fix it and call again, which does only these: {command}")
    return "\n".join(map(printable, lines))
