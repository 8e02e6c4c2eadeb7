"""Asked to stop by a signal: finish the step, save, leave; a scheduler's own handler comes after."""

import signal
import threading
from types import FrameType
from typing import Any

from micl_bench.runtime.errors import Stopped

# Slurm's default, its users' habit, and submitit's choice (NCCL may catch USR1).
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """Notes a signal instead of dying of it, inside a `with` block.

    Example:
        with StopSignals() as asked:
            for batch in batches:
                step(batch)
                if asked.signum:
                    break
    """

    signum: int = 0
    """The first signal that came; 0 for none."""

    def __enter__(self) -> "StopSignals":
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            # submitit ignores SIGTERM on purpose, because its own signal follows.
            if number is signal.SIGTERM and handler is not signal.SIG_DFL:
                continue
            self._before[number] = handler
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum


def stopped(signum: int, *, step: int, total: int) -> Stopped:
    """What a run raises that was asked to stop and has saved; `signum` is 0 where another process
    got the signal."""
    name = signal.Signals(signum).name if signum else "a signal to another process"
    return Stopped(
        f"stopped by {name} after saving step {step} of {total}; the same command goes on from there",
        signum=signum,
    )
