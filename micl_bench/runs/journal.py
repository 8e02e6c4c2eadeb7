"""The journal of a run as it goes on: a line on the terminal, JSON lines, TensorBoard."""

import importlib.util
from pathlib import Path
from typing import Any

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import MetricLog, Progress

_HIDDEN = ("step", "epoch", "seconds_left")


class Journal:
    """Shows how a run goes on, and writes rows of numbers as they come.

    Args:
        folder: of the files; None for the terminal's line alone.
        step: steps done before; later rows of an earlier process are dropped.
        label: of the progress line.
    """

    def __init__(
        self, folder: Path | None, *, step: int, total: int, label: str, quiet: bool = False
    ) -> None:
        self._log: MetricLog | None = None
        self._events: Any = None
        if folder:
            self._log = MetricLog(folder / "metrics.jsonl", first_step=step + bool(step))
        if folder and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            events = folder / "events"
            if events.exists() and not events.is_dir():
                raise InputError(f"{events} is no folder; remove it, or give another --out")
            self._events = SummaryWriter(str(events), purge_step=step + bool(step))
        self.progress = Progress(label, total=total, done=step, quiet=quiet)

    def step(self, row: dict[str, float], *, total: int, epochs: int) -> None:
        """Note one step; `row` holds step, epoch, loss, lr and the speeds, perhaps the MFU."""
        mfu = f"  MFU {100 * row['mfu']:.0f} %" if "mfu" in row else ""
        self.progress.step(
            f"step {row['step']}/{total}  epoch {row['epoch']:.1f}/{epochs}  loss {row['loss']:.3f}  "
            f"lr {row['lr']:.1e}  {row['images_per_second']:.0f} images/s  "
            f"data-wait {100 * row['data_wait']:.0f} %{mfu}"
        )
        self.write(row | {"seconds_left": self.progress.seconds_left})

    def write(self, row: dict[str, Any]) -> None:
        """Write a row; it holds at least step and epoch. Words in it go to the file alone."""
        if self._log:
            self._log.write(row)
        if self._events:
            for name, value in row.items():
                if name not in _HIDDEN and not isinstance(value, str):
                    self._events.add_scalar(name, value, int(row["step"]))

    def rows(self) -> list[dict[str, Any]]:
        """Every row so far, those of earlier processes included."""
        return self._log.rows() if self._log else []

    def flush(self) -> None:
        """Bring what was written to the disk, before a state says how far the run is."""
        if self._log:
            self._log.flush()

    def close(self) -> None:
        """Close the files."""
        if self._log:
            self._log.close()
        if self._events:
            self._events.close()
