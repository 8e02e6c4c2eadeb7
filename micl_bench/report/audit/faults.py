"""Files beside the shown records that are damaged or gone, whether or not the report would draw them."""

import dataclasses
from pathlib import Path

from micl_bench.report.compare.artefact_files import Reader, fault_of, without_folder
from micl_bench.report.figures.galleries import KINDS
from micl_bench.report.figures.training_plot import load_rows
from micl_bench.report.frame.selection import Selection

_DRAWN: dict[str, Reader] = {
    "metrics": load_rows,
    **{name: kind.load for name, kind in KINDS.items()},
}
"""By artefact, the function that reads and checks the file of a picture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults:
    """Faults of files beside records: their numbers stand, tests and pictures are left out."""

    damaged: list[tuple[str, str]]
    """File, relative to the store, and the fault."""
    gone: list[str]
    """Files that records name and that are not there."""


def find_faults(store: Path, selection: Selection) -> Faults:
    """Read every file that the shown records name, and return the faults found."""
    damaged: dict[str, str] = {}
    gone: dict[str, None] = {}
    for result in selection.current:
        for name in result.artifacts:
            file = _relative(store, result.path, result.artifacts[name])
            problem = fault_of(result, name, _DRAWN)
            if problem is None:
                gone[file] = None
            elif problem:
                words = without_folder(result, problem)
                damaged[file] = words.removeprefix(f"{result.artifacts[name]} ")
    return Faults(damaged=sorted(damaged.items()), gone=sorted(gone))


def _relative(store: Path, record: Path, artefact: str) -> str:
    """Return the name relative to the store; for a path that leads out of it, the name in the record."""
    path = record.parent / artefact
    return path.relative_to(store).as_posix() if path.is_relative_to(store) else artefact
