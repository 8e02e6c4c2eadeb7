"""Runs of a suite, in order of what they need: what is done is skipped, what fails stops no other.

Several suites may be at one store: each run is claimed by a lock. Runs that another suite has
claimed are waited for last.

    <store>/.claims/<key>.lock       held while a run is made
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from micl_bench.records.plans import Plan, PlannedRun, plan_path, read_plans, write_plan
from micl_bench.records.result import Record
from micl_bench.runtime.errors import InputError, Stopped
from micl_bench.runtime.locks import Lock, sweep_locks, turn
from micl_bench.runtime.log import clock, printable, say
from micl_bench.suites.display import Display
from micl_bench.suites.execute import Call, execute
from micl_bench.suites.run import Run
from micl_bench.suites.state import LOG_FILE, State, States

_CLAIMS = ".claims"
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a run: its records, or else the reason why it has none."""

    run: Run
    results: tuple[Record, ...] = ()
    problem: str = ""
    left_out: bool = False
    """True where it was not tried, because a run that it needs failed."""


class Runner:
    """Carries out a plan in a store.

    Args:
        call: does a run of one process, in this process.
        suite: name of the plan that is kept in the store.
        runs: the whole plan, each run after what it needs.
        chosen: those to carry out; all where None. What they need must be done, or being made.
        first: looks at what is not done, before anything is written or run.
    """

    def __init__(
        self,
        call: Call,
        suite: str,
        runs: list[Run],
        store: Path,
        *,
        chosen: list[Run] | None = None,
        first: Callable[[list[Run]], None] | None = None,
    ) -> None:
        self.call, self.suite, self.runs, self.store = call, suite, runs, store
        self.states = States(store, runs)
        self._pending = list(runs if chosen is None else chosen)
        self._first = first
        self._chosen = {run.key for run in self._pending}
        self._outcomes: dict[str, Outcome] = {}
        self._attempts: dict[str, str] = {}
        """The attempt that each failed run had seen before this call began."""

    def run(self) -> list[Outcome]:
        """Do the runs that are not done yet, and return the outcome of each, in the plan's order.

        Raises:
            Stopped: a signal came; the run that got it had its time to save.
        """
        total = len(self._pending)
        found = self._skip_done()
        if self._first:
            self._first(self._pending)
        self.store.mkdir(parents=True, exist_ok=True)
        sweep_locks(self.store / _CLAIMS)
        for damaged in read_plans(self.store)[1]:
            if damaged.path == plan_path(self.store, self.suite):
                say(printable(f"{damaged.path} is damaged, and written anew: {damaged.reason}"))
        with Display(total=total) as self._display:
            self._display.found(found)
            self.write_plan()
            while self._pending:
                if not self._step():
                    self._display.waiting(self._pending)
                    time.sleep(_POLL_SECONDS)
        return [self._outcomes[run.key] for run in self.runs if run.key in self._outcomes]

    def _skip_done(self) -> list[Run]:
        """Take note of what is there, and return the runs that are done."""
        found = []
        for run in self.runs:
            state = self.states.of(run)
            if state.word == "done":
                if run.key in self._chosen:
                    found.append(run)
                    self._outcomes[run.key] = Outcome(run=run, results=state.results)
            elif state.word == "failed":
                self._attempts[run.key] = state.attempt
        self._pending = [run for run in self._pending if run.key not in self._outcomes]
        return found

    def _step(self) -> bool:
        """Try each run in turn until one has an outcome."""
        for run in self._pending:
            if outcome := self._try(run):
                self._outcomes[run.key] = outcome
                self._pending.remove(run)
                # Looking at ten thousand folders after each run would take longer than a run.
                self.write_plan(look=len(self._chosen) < len(self.runs))
                return True
        return False

    def _try(self, run: Run) -> Outcome | None:
        """Make a run if it can be made now; None where it must wait for a run or for another suite."""
        for need in run.needs:
            if problem := self._problem_of(need):
                self._display.ended(run, f"left out: {problem}", failed=True)
                return Outcome(run=run, problem=problem, left_out=True)
            if not self._is_done(need):
                return None
        if any(first.key in self._chosen - set(self._outcomes) for first in run.after):
            return None
        with self._claimed(run) as ours:
            return self._claim(run) if ours else None

    def _problem_of(self, need: Run) -> str:
        """Say why a run that is needed will not be there; empty where it is, or may yet be."""
        if need.key in self._outcomes:
            return f"it needs {need.name}, which failed" if self._outcomes[need.key].problem else ""
        if need.key in self._chosen or self._is_done(need):
            return ""
        with self._claimed(need) as ours:
            if not ours or self._is_done(need):
                return ""
        return f"it needs {need.name}, which is not done"

    def _is_done(self, run: Run) -> bool:
        if run.key in self._outcomes:
            return True
        return run.key not in self._chosen and self.states.of(run).word == "done"

    @contextlib.contextmanager
    def _claimed(self, run: Run) -> Iterator[bool]:
        """Claim a run meanwhile; yields False where another process has claimed it."""
        lock = Lock(self.store / _CLAIMS / f"{run.key[:16]}.lock")
        try:
            yield lock.take()
        finally:
            lock.release()

    def _claim(self, run: Run) -> Outcome:
        state = self.states.of(run)
        if state.word == "done":
            self._display.ended(run, "made by another suite")
            return Outcome(run=run, results=state.results)
        if state.word == "failed" and state.attempt != self._attempts.get(run.key, ""):
            self._display.ended(run, f"in another suite: {state.problem}", failed=True)
            return Outcome(run=run, problem=state.problem)
        if self.states.left_whole(run):
            # Killed between its last word and ours.
            return self._finished(run, self.states.finish(run, 0.0), "was done already")
        return self._carry_out(run)

    def _carry_out(self, run: Run) -> Outcome:
        for left in self.states.folder(run).glob(".*lock"):
            # Of a suite that was killed: processes that it started save, and end soon.
            with turn(left, f"making {run.name}", on_wait=say):
                pass
        self.states.begin(run)
        self._display.began(run, run.command(self.store))
        log, began = self.states.folder(run) / LOG_FILE, time.monotonic()
        code, words = execute(
            self.call,
            run.arguments(self.store),
            log,
            self._display.lines,
            processes=run.processes,
        )
        took = time.monotonic() - began
        if code:
            reason = words.removeprefix("error: ") or "it said nothing"
            end = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            return self._failed(run, f"{reason} ({end}; all it said: {log})", took)
        try:
            state = self.states.finish(run, took)
        except InputError as error:
            if not any(self.states.folder(run).glob(f"{run.task}-*.json")):
                # A signal to one of several processes alone: they saved and left.
                message = f"{run.name} was stopped; the same command goes on"
                raise Stopped(message, signum=0) from error
            return self._failed(run, str(error), took)
        return self._finished(run, state, f"took {clock(took)}")

    def _finished(self, run: Run, state: State, words: str) -> Outcome:
        if state.word != "done":
            return self._failed(run, state.problem, state.seconds)
        self._display.ended(run, words)
        return Outcome(run=run, results=state.results)

    def _failed(self, run: Run, problem: str, seconds: float) -> Outcome:
        self.states.fail(run, problem, seconds)
        self._display.ended(run, problem, failed=True)
        return Outcome(run=run, problem=problem)

    def write_plan(self, *, look: bool = True) -> None:
        """Keep the plan in the store, where reports find it.

        Args:
            look: at the folders of runs that this process has not tried; else they count as to do.
        """
        runs = tuple(self._planned(run, look) for run in self.runs)
        write_plan(self.store, Plan(suite=self.suite, runs=runs))

    def _planned(self, run: Run, look: bool) -> PlannedRun:
        outcome = self._outcomes.get(run.key)
        if outcome:
            problem = outcome.problem
            word = "new" if outcome.left_out else "failed" if problem else "done"
        else:
            state = self.states.of(run) if look else State(word="new")
            word, problem = state.word, state.problem if state.word == "failed" else ""
        return PlannedRun(
            name=run.name,
            task=run.task,
            title=run.title,
            method=run.method,
            seed=-1 if run.seed is None else run.seed,
            data=run.data,
            folder=run.folder.as_posix(),
            state="failed" if word == "failed" else "done" if word == "done" else "to do",
            problem=problem[:2000],
            command=run.command(self.store),
        )
