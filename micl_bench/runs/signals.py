"""Asked to stop by a signal: finish the step, save, leave; a scheduler's own handler comes after."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from micl_bench.runtime.errors import Stopped

# Slurm's default, its users' habit, and submitit's choice (NCCL may catch USR1).
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopSignals:
    """Notes a signal instead of dying of it, inside a `with` block.

    Where one block is inside another, as a training is inside a suite, the outer one learns of it too.

    Args:
        then: called with each signal.

    Example:
        with StopSignals() as asked:
            for batch in batches:
                step(batch)
                if asked.signum:
                    break
    """

    def __init__(self, then: Callable[[int], object] = lambda signum: None) -> None:
        self.signum = 0
        """The first signal that came; 0 for none."""
        self._then = then
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            # submitit ignores SIGTERM on purpose, because its own signal follows.
            ours = handler is signal.SIG_DFL or _owner(handler)
            if ours or number is not signal.SIGTERM:
                self._before[number] = handler
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        outer: StopSignals | None = self
        while outer:
            outer.signum = outer.signum or signum
            outer = _owner(outer._before.get(signum))
        self._then(signum)


def _owner(handler: Any) -> StopSignals | None:
    """Return the block that a handler of signals belongs to; None for any other handler."""
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, StopSignals) else None


def stopped(signum: int, *, step: int, total: int) -> Stopped:
    """Return what a run raises that was asked to stop and has saved; `signum` is 0 where another
    process got the signal."""
    name = signal.Signals(signum).name if signum else "a signal to another process"
    return Stopped(
        f"stopped by {name} after saving step {step} of {total}; the same command goes on from there",
        signum=signum,
    )
