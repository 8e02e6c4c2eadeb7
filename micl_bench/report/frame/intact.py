"""Whether a file beside a record is there, is the record's, and can be read."""

from collections.abc import Callable, Mapping
from pathlib import Path

from micl_bench.records.evidence.confusions import METRICS, read_confusions
from micl_bench.records.evidence.detections import read_detections
from micl_bench.records.result import Result
from micl_bench.report.compare.artefact_files import artifact_path
from micl_bench.report.compare.per_image_checks import check_digest, read_evidence
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.npz import read_npz

Reader = Callable[[Path], object]


def fault_of(
    record: Path,
    result: Result,
    name: str,
    readers: Mapping[tuple[str, str], Reader] | None = None,
) -> str | None:
    """What is wrong with an artefact of a record: nothing if empty, None where it is gone.

    Args:
        readers: by task and artefact, what reads and checks the files that pictures are made of;
            without, that they are arrays is all that is checked.
    """
    try:
        path = artifact_path(record, result, name)
        if path is None:
            return None
        check_digest(path, record, result, name)
        _read(path, record, result, name, (readers or {}).get((result.task, name)))
    except InputError as error:
        return str(error)
    return ""


def _read(path: Path, record: Path, result: Result, name: str, reader: Reader | None) -> None:
    """Raises InputError where the file is not what its record needs."""
    if name == "predictions" and read_evidence(record, result) is not None:
        return
    if name == "statistics":
        segments = any(metric in METRICS for metric in result.metrics)
        (read_confusions if segments else read_detections)(path)
    elif reader:
        reader(path)
    elif path.suffix == ".npz":
        read_npz(path)
