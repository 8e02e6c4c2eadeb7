"""A command of `micl-bench` as a process of its own, which ends when the process that started it does.

It is a session of its own: a Ctrl-C in the terminal reaches it once, through whoever started it. Killed
or crashed, it takes nothing else along.
"""

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from micl_bench.runs.signals import StopSignals
from micl_bench.runtime.errors import Stopped
from micl_bench.runtime.patience import Patience

_SECONDS_TO_END = 10.0
_TICK_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1


def command_line(arguments: Sequence[str], processes: int = 1) -> list[str]:
    """What starts one command of `micl-bench` on this machine, under torchrun where there are several
    processes."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*start, "-m", "micl_bench", *arguments]


class Process:
    """A process under way.

    Example:
        with Process(command_line(["eval", ...])) as process:
            code = process.wait()
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: IO[bytes] | None = None,
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            output: where all it writes goes; this process's own where None.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            # No module of a working folder takes the place of an installed one, as for `micl-bench`.
            env={**(environment or os.environ), "PYTHONSAFEPATH": "1"},
            start_new_session=True,
            # What it starts as has no threads yet, and all that is called was looked up here.
            preexec_fn=_ending_with(os.getpid()),
        )

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no process behind, whatever was raised meanwhile."""
        if self._process.poll() is None:
            self._send(signal.SIGTERM)
            if not self._ends_soon():
                # It leads its session: what it started goes too.
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, on_tick: Callable[[], None] | None = None) -> int:
        """Wait for the end; gives the exit code, negative for a signal.

        Signals that ask to save and leave are passed on, and a Ctrl-C too.

        Args:
            on_tick: called several times a second.

        Raises:
            Stopped: a signal came to this process; the other had it too, and its time to save.
        """
        with StopSignals(then=self._send) as asked:
            try:
                while (code := self._ended(_TICK_SECONDS)) is None:
                    if on_tick:
                        on_tick()
            except KeyboardInterrupt:
                self._interrupt()
                raise
        if asked.signum:
            name = signal.Signals(asked.signum).name
            raise Stopped(f"stopped by {name}; the same command goes on", signum=asked.signum)
        return code

    def _interrupt(self) -> None:
        """Pass a Ctrl-C on; who does not heed it in time, or at a second one, is ended."""
        self._send(signal.SIGINT)
        with contextlib.suppress(KeyboardInterrupt):
            self._ends_soon()

    def _ends_soon(self) -> bool:
        patience = Patience(_SECONDS_TO_END, every=_TICK_SECONDS)
        while self._ended(_TICK_SECONDS) is None:
            if patience.ends():
                return False
        return True

    def _ended(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def _ending_with(parent: int) -> Callable[[], None] | None:
    """What a new process does before anything else: ask for SIGTERM when its parent is gone.

    SIGTERM, because a training then saves its step, and torchrun ends its processes.
    """
    if sys.platform != "linux":
        return None
    return functools.partial(_end_with, ctypes.CDLL(None).prctl, parent)


def _end_with(prctl: Callable[..., int], parent: int) -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # It was gone already.
        os._exit(1)
