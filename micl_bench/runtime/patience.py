"""How long to wait for another process: by the looks that found nothing, not by the clock.

The clock runs on while a whole job is stopped (suspended by Slurm, paused by docker, Ctrl-Z), when
nobody could have answered.
"""

import math


class Patience:
    """Bounds a wait; however long the waiting process was stopped, that counts as one look.

    Args:
        seconds: the longest wait.
        every: seconds that one look takes, with the pause after it.
    """

    def __init__(self, seconds: float, *, every: float) -> None:
        self._most = max(1, math.ceil(seconds / every))
        self._failed = 0

    def ends(self) -> bool:
        """Count a look that found nothing; whether it was the last."""
        self._failed += 1
        return self._failed >= self._most

    def begin_again(self) -> None:
        """Forget the looks so far: one found something."""
        self._failed = 0
