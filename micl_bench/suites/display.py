"""What is seen while a suite runs: a live picture on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from micl_bench.runtime.log import clock, printable, say
from micl_bench.suites.estimate import Estimate
from micl_bench.suites.run import Run


class Display:
    """Counts runs, shows the one at work with its last line, and guesses the time left.

    Example:
        with Display(runs, estimate) as display:
            display.began(run)
            display.lines(["k-NN  40%"])
            display.ended(run, "took 0:12")
    """

    def __init__(self, runs: list[Run], estimate: Estimate) -> None:
        self._left = {run.key: run for run in runs}
        self._total, self._estimate = len(runs), estimate
        self._done = self._failed = 0
        self._current: Run | None = None
        self._began, self._line, self._waits = time.monotonic(), "", ""
        self._live: Live | None = None

    def __enter__(self) -> "Display":
        if sys.stderr.isatty():
            # Refreshed by hand, several times a second: a run's process is started without threads.
            self._live = Live(
                console=Console(file=sys.stderr),
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def found(self, runs: Iterable[Run]) -> None:
        """Take note of runs that are done already."""
        for run in runs:
            self._left.pop(run.key, None)
            self._done += 1
        self._refresh()

    def began(self, run: Run, command: str) -> None:
        """A run begins."""
        self._current, self._began, self._line = run, time.monotonic(), ""
        self._waits = ""
        self._tell(f"[{self._place()}/{self._total}] {run.name}  ({self._remaining()})")
        if not self._live:
            say(f"  {printable(command)}")

    def lines(self, lines: list[str]) -> None:
        """What it wrote since the last call; called often, with or without any."""
        if lines:
            self._line = lines[-1]
        if not self._live:
            for line in lines:
                say(f"  {line}")
        self._refresh()

    def ended(self, run: Run, words: str, *, failed: bool = False) -> None:
        """A run ended, or was found done by another suite, or is left out."""
        self._left.pop(run.key, None)
        self._done, self._failed = self._done + (not failed), self._failed + failed
        if self._current is run:
            self._current = None
        self._tell(f"{'failed' if failed else 'done'}  {run.name}  {words}")

    def waiting(self, runs: list[Run]) -> None:
        """Nothing can begin: others are at these runs."""
        names = ", ".join(run.name for run in runs[:3]) + (" ..." if len(runs) > 3 else "")
        if names != self._waits:
            self._waits = names
            if not self._live:
                say(printable(f"waiting for what another suite is making: {names}"))
        self._refresh()

    def _place(self) -> int:
        return self._done + self._failed + 1

    def _remaining(self) -> str:
        guesses = [self._estimate.seconds(run) for run in self._left.values()]
        elapsed = time.monotonic() - self._began if self._current else 0.0
        known = sum(guess for guess in guesses if guess is not None)
        unknown = guesses.count(None)
        if unknown == len(guesses) and guesses:
            return "time left: ?"
        more = (
            f" and {unknown} run{'s' if unknown > 1 else ''} of unknown length" if unknown else ""
        )
        return f"about {clock(max(0.0, known - elapsed))} left{more}"

    def _tell(self, line: str) -> None:
        if self._live:
            self._live.console.print(Text(printable(line)))
            self._refresh()
        else:
            say(printable(line))

    def _refresh(self) -> None:
        if not self._live:
            return
        finished = self._done + self._failed
        head = Table.grid(padding=(0, 2))
        failed = f", {self._failed} failed" if self._failed else ""
        head.add_row(
            ProgressBar(total=max(1, self._total), completed=finished, width=30),
            Text(f"{finished} of {self._total}{failed}"),
            Text(self._remaining()),
        )
        rows: list[RenderableType] = [head]
        if self._current:
            took = clock(time.monotonic() - self._began)
            name = Text(printable(f"{self._current.name}  {took}"), style="bold")
            rows += [name, Text(f"  {self._line}", no_wrap=True, overflow="ellipsis")]
        elif self._waits:
            rows.append(Text(printable(f"waiting for another suite: {self._waits}")))
        self._live.update(Group(*rows), refresh=True)
