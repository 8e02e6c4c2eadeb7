"""The texts that a suite prints: its plan with what is left to do, and at the end its results."""

from pathlib import Path

from micl_bench.records.declared import Number
from micl_bench.records.plans import RUN_FILE, plan_path, read_plans
from micl_bench.records.result import Result
from micl_bench.report.frame.naming import assumed_words
from micl_bench.report.tables.measured_cell import Notes
from micl_bench.runtime.log import clock, printable
from micl_bench.runtime.terminal import table_text
from micl_bench.suites.run import Run
from micl_bench.suites.runs import Outcome
from micl_bench.suites.state import State, States, read_note

_PLAN_HEADER = ("state", "run", "folder", "why")
_PARTS = {
    "command": "its command changed",
    "recipe": "its recipe changed",
    "checkpoint": "its checkpoint's content changed",
    "needs": "what it needs changed",
}


def shown_plan(suite: str, runs: list[Run], store: Path) -> str:
    """Return the plan as text: a row per run, the counts, and the commands that are left to do."""
    states, before = States(store, runs), _before(suite, store)
    rows, left = [], []
    for run in runs:
        state = states.of(run)
        word, why = _in_words(run, state, before.get(run.name, ""), store)
        rows.append((word, run.name, str(run.folder), why))
        left += [run] if state.word != "done" else []
    to_do = f"{len(left)} to do:" if left else "nothing to do"
    counts = f"{len(runs) - len(left)} of {len(runs)} done; {to_do}"
    commands = [printable(run.command(store)) for run in left]
    return "\n".join([table_text(_PLAN_HEADER, rows, words=range(4)), "", counts, *commands])


def _in_words(run: Run, state: State, old: str, store: Path) -> tuple[str, str]:
    """Return the state of a run and the reason; `old` is its folder in the store's last plan."""
    if state.word == "done":
        return "done", f"took {clock(state.seconds)}" if state.seconds else ""
    if state.word == "failed":
        return "failed", state.problem
    if state.word == "cut":
        return "to do", f"{state.problem}; it {'goes on' if run.resumes else 'starts over'}"
    if old and old != run.folder.as_posix():
        return "to do", _changed(run, read_note(store / old / RUN_FILE), old)
    return "to do", "new"


def _changed(run: Run, note: dict[str, object], old: str) -> str:
    """Say how a run differs from the one of the same name in the store's last plan."""
    parts = note.get("parts")
    if not isinstance(parts, dict):
        return "new"
    # What lies below these is made of lists and texts, as JSON is.
    changed = [words for name, words in _PARTS.items() if parts.get(name) != run.parts[name]]
    return f"{', '.join(changed) or 'it changed'}; the old result stays in {old}"


def _before(suite: str, store: Path) -> dict[str, str]:
    """Return the folder of each run in the last plan, by name."""
    path = plan_path(store, suite)
    last = [plan for plan in read_plans(store)[0] if plan_path(store, plan.suite) == path]
    return {run.name: run.folder for plan in last for run in plan.runs}


def failures(outcomes: list[Outcome], command: str) -> str:
    """Return a text on what failed, why, and how to go on."""
    failed = [outcome for outcome in outcomes if outcome.problem and not outcome.left_out]
    left_out = sum(outcome.left_out for outcome in outcomes)
    lines = [f"failed: {outcome.run.name}: {outcome.problem}" for outcome in failed]
    if left_out:
        lines.append(f"left out, because what they need is not there: {left_out}")
    lines.append(f"to go on, fix it and call again, which does only these: {command}")
    return "\n".join(map(printable, lines))


_HEADER = ("entry", "method", "values", "seed", "data", "metric", "value", "95 % interval")
_LEFT = (0, 1, 2, 4, 5)


def table(outcomes: list[Outcome]) -> str:
    """Return the results as text: a row per run and headline metric, with footnotes."""
    best, notes = _best(outcomes), Notes()
    rows: list[tuple[str, ...]] = []
    for outcome in outcomes:
        run = outcome.run
        values = " ".join(f"{key}={value}" for key, value in run.values)
        seed = "" if run.seed is None else str(run.seed)
        for result in outcome.results:
            for metric in result.quoted:
                number = result.metrics[metric]
                text = f"{number}{best.get((*_combination(outcome, result), metric), '')}"
                text += "".join(f" [{notes.mark(words)}]" for words in assumed_words([result]))
                row = (run.entry, run.method, values, seed, result.data.name, number.header, text)
                rows.append((*row, _ends(number)))
        if outcome.problem:
            word = "left out" if outcome.left_out else "failed"
            rows.append((run.entry, run.method, values, seed, "", "", word, ""))
    lines = [table_text(_HEADER, rows, words=_LEFT)]
    footnotes = [printable(f"[{mark}] {words}") for mark, words in notes.footnotes]
    return "\n".join([*lines, *([""] if footnotes else []), *footnotes, *_notes(best)])


def _ends(number: Number) -> str:
    return number.interval_text(number.interval) if number.interval else ""


def _combination(outcome: Outcome, result: Result) -> tuple[str, str, str, str]:
    """Return the words that all seeds of one combination of values share."""
    run = outcome.run
    return run.entry, run.method, result.data.name, str(run.values)


def _best(outcomes: list[Outcome]) -> dict[tuple[str, str, str, str, str], str]:
    """Return marks by combination and metric, where one entry measured a method with several.

    With several seeds the mean over them counts: choosing for each seed would choose more often.
    """
    found: dict[tuple[str, str, str, str, str], list[float]] = {}
    for outcome in outcomes:
        for result in outcome.results:
            for metric in result.quoted:
                value = result.metrics[metric].value * result.metrics[metric].direction
                found.setdefault((*_combination(outcome, result), metric), []).append(value)
    rivals: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for (entry, method, data, values, metric), seen in found.items():
        mean = sum(seen) / len(seen)
        if mean == mean:
            rivals.setdefault((entry, method, data, metric), {})[values] = mean
    return {
        (entry, method, data, values, metric): f" best of {len(means)}"
        for (entry, method, data, metric), means in rivals.items()
        for values, mean in means.items()
        if len(means) > 1 and mean == max(means.values())
    }


def _notes(best: dict[tuple[str, str, str, str, str], str]) -> list[str]:
    if not best:
        return []
    return [
        "",
        "best of N: tried on the evaluated images themselves, as papers do, which makes it look better",
        "than the same values would do on other images; report how many were tried, and the interval.",
    ]
