"""What a record rests on, image by image, checked before a test relies on it."""

import functools
from pathlib import Path

from micl_bench.records.evidence.evidence import Evidence
from micl_bench.records.evidence.read import read_evidence
from micl_bench.records.result import Record
from micl_bench.report.compare.artefact_files import artifact_path, check_digest
from micl_bench.runtime.errors import InputError

ARTEFACT = "evidence"
"""What records call the file."""
# That of a whole ImageNet takes some ten megabytes.
_KEPT_AT_ONCE = 16


def evidence_of(record: Record) -> Evidence | None:
    """The evidence of a record, read once for all that ask; None where it has none.

    Raises:
        InputError: the file is damaged, lies outside the record's folder, is not the one whose digest
            the record has, contradicts itself, or does not give the record's metrics.
    """
    path = artifact_path(record, ARTEFACT)
    if path is None or not record.evidence:
        return None
    # Where the file changed since, it is read anew.
    return _read(record, path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=_KEPT_AT_ONCE)
def _read(record: Record, path: Path, changed: int) -> Evidence:
    check_digest(path, record, ARTEFACT)
    found = read_evidence(path, record.evidence)
    try:
        found.check(record.values)
    except InputError as error:
        raise InputError(
            f"{path} is not what record {record.path.name} rests on: {error}"
        ) from error
    return found
