"""The progress of a suite: a bar with the run at work on a terminal, plain lines elsewhere."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from micl_bench.runtime.log import printable
from micl_bench.runtime.streams import standard_error
from micl_bench.suites.run import Run


class Display:
    """Counts runs, and shows the one at work with its last line.

    Example:
        with Display(total=3) as display:
            display.began(run, command)
            display.lines(["k-NN  40%"])
            display.ended(run, "took 0:12")
    """

    def __init__(self, *, total: int) -> None:
        self._total, self._done, self._failed = total, 0, 0
        self._waits = ""
        # A run at work has the process's own standard error for its log.
        stream = standard_error()
        self._console, self._has_bar = Console(file=stream, soft_wrap=True), stream.isatty()
        self._bar = Progress(
            BarColumn(30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn(
                "{task.fields[line]}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis"),
            ),
            console=self._console,
            disable=not self._has_bar,
            # By hand, several times a second: with a run's lines.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=total, line="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def found(self, runs: Sequence[Run]) -> None:
        """Take note of runs that are done already."""
        self._done += len(runs)
        self._show(line="")

    def began(self, run: Run, command: str) -> None:
        """Show that a run begins."""
        self._waits = ""
        self._tell(f"[{self._done + self._failed + 1}/{self._total}] {run.name}")
        if not self._has_bar:
            self._tell(f"  {command}")
        self._show(description=printable(run.name), line="")

    def lines(self, lines: list[str]) -> None:
        """Show the lines that the run wrote since the last call; there may be none."""
        for line in lines if not self._has_bar else ():
            self._tell(f"  {line}")
        self._show(**({"line": lines[-1]} if lines else {}))

    def ended(self, run: Run, words: str, *, failed: bool = False) -> None:
        """Show that a run ended, was done by another suite, or is left out."""
        self._done, self._failed = self._done + (not failed), self._failed + failed
        self._tell(f"{'failed' if failed else 'done'}  {run.name}  {words}")
        self._show(description=f"{self._failed} failed" if self._failed else "", line="")

    def waiting(self, runs: list[Run]) -> None:
        """Show that these runs are waited for: other suites are making what they need."""
        names = ", ".join(run.name for run in runs[:3]) + (" ..." if len(runs) > 3 else "")
        if names != self._waits:
            self._waits = names
            self._tell(f"waiting for what another suite is making: {names}")
        self._show()

    def _tell(self, line: str) -> None:
        self._console.print(Text(printable(line)))

    def _show(self, **changes: str) -> None:
        """Refresh the bar; what is not given stays."""
        done = self._done + self._failed
        self._bar.update(self._task, completed=done, refresh=True, **changes)  # type: ignore[arg-type]
