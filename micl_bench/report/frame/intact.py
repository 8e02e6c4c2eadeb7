"""Whether a file beside a record is there, is the record's, and can be read."""

from collections.abc import Callable, Mapping
from pathlib import Path

from micl_bench.records.result import Record
from micl_bench.report.compare.artefact_files import artifact_path, check_digest
from micl_bench.report.compare.kept import ARTEFACT, evidence_of
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.npz import read_npz

Reader = Callable[[Path], object]


def fault_of(
    record: Record,
    name: str,
    readers: Mapping[str, Reader] | None = None,
) -> str | None:
    """What is wrong with an artefact of a record: nothing if empty, None where it is gone.

    Args:
        readers: by artefact, what reads and checks the files that pictures are made of;
            without, that they are arrays is all that is checked.
    """
    try:
        path = artifact_path(record, name)
        if path is None:
            return None
        check_digest(path, record, name)
        _read(path, record, name, (readers or {}).get(name))
    except InputError as error:
        return str(error)
    return ""


def _read(path: Path, record: Record, name: str, reader: Reader | None) -> None:
    """Raises InputError where the file is not what its record needs."""
    if name == ARTEFACT:
        evidence_of(record)
    elif reader:
        reader(path)
    elif path.suffix == ".npz":
        read_npz(path)
