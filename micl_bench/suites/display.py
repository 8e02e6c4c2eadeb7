"""What is seen while a suite runs: a bar with the run at work on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from typing import TextIO

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
        self._line = self._waits = ""
        # A run at work has the process's standard error for its log.
        self._stream = standard_error()
        self._bar = _bar(self._stream) if self._stream.isatty() else None

    def __enter__(self) -> "Display":
        if self._bar:
            self._task = self._bar.add_task("", total=self._total, line="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def found(self, runs: Sequence[Run]) -> None:
        """Take note of runs that are done already."""
        self._done += len(runs)
        self._show(line="")

    def began(self, run: Run, command: str) -> None:
        """A run begins."""
        self._waits = ""
        self._tell(f"[{self._done + self._failed + 1}/{self._total}] {run.name}")
        if not self._bar:
            self._say(f"  {printable(command)}")
        self._show(name=printable(run.name), line="")

    def lines(self, lines: list[str]) -> None:
        """What it wrote since the last call; called often, with or without any."""
        if not self._bar:
            for line in lines:
                self._say(f"  {line}")
        self._show(line=lines[-1] if lines else None)

    def ended(self, run: Run, words: str, *, failed: bool = False) -> None:
        """A run ended, or was found done by another suite, or is left out."""
        self._done, self._failed = self._done + (not failed), self._failed + failed
        self._tell(f"{'failed' if failed else 'done'}  {run.name}  {words}")
        self._show(name=f"{self._failed} failed" if self._failed else "", line="")

    def waiting(self, runs: list[Run]) -> None:
        """Nothing can begin: others are at these runs."""
        names = ", ".join(run.name for run in runs[:3]) + (" ..." if len(runs) > 3 else "")
        if names != self._waits:
            self._waits = names
            self._tell(f"waiting for what another suite is making: {names}")
        self._show()

    def _tell(self, line: str) -> None:
        if self._bar:
            self._bar.console.print(Text(printable(line)))
        else:
            self._say(printable(line))

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def _show(self, *, name: str | None = None, line: str | None = None) -> None:
        """Refresh the bar; None leaves the run's name or its last line as it is."""
        if self._bar:
            self._line = self._line if line is None else line
            done = self._done + self._failed
            self._bar.update(
                self._task, description=name, completed=done, refresh=True, line=self._line
            )


def _bar(stream: TextIO) -> Progress:
    narrow = Column(no_wrap=True, overflow="ellipsis")
    return Progress(
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[line]}", markup=False, table_column=narrow),
        console=Console(file=stream),
        # By hand, several times a second: with a run's lines.
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
