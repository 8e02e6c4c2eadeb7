"""What a record rests on, image by image, checked before a test relies on it."""

import functools
from pathlib import Path

from micl_bench.records.evidence.evidence import Evidence
from micl_bench.records.evidence.read import read_evidence
from micl_bench.records.result import Result
from micl_bench.report.compare.artefact_files import artifact_path, check_digest
from micl_bench.runtime.errors import InputError

ARTEFACT = "evidence"
"""What records call the file."""
# That of a whole ImageNet takes some ten megabytes.
_KEPT_AT_ONCE = 16


def evidence_of(record: Path, result: Result) -> Evidence | None:
    """The evidence of a record, read once for all that ask; None where it has none.

    Raises:
        InputError: the file is damaged, lies outside the record's folder, is not the one whose digest
            the record has, contradicts itself, or does not give the record's metrics.
    """
    path = artifact_path(record, result, ARTEFACT)
    if path is None or not result.evidence:
        return None
    state = path.stat()
    return _read(record, path, result.id, (state.st_mtime_ns, state.st_size), _Asked(result))


class _Asked:
    """A record, equal to itself alone: its id is in the key."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=_KEPT_AT_ONCE)
def _read(
    record: Path, path: Path, identity: str, state: tuple[int, int], asked: _Asked
) -> Evidence:
    result = asked.result
    check_digest(path, record, result, ARTEFACT)
    found = read_evidence(path, result.evidence)
    try:
        found.check(result.values)
    except InputError as error:
        raise InputError(f"{path} is not what record {record.name} rests on: {error}") from error
    return found
