"""Reading of evidence of any kind."""

from collections.abc import Callable
from pathlib import Path

from micl_bench.records.evidence.confusions import Confusions, read_confusions
from micl_bench.records.evidence.detections import Detections, read_detections
from micl_bench.records.evidence.evidence import Evidence
from micl_bench.records.evidence.predictions import Predictions, read_predictions
from micl_bench.runtime.errors import InputError

_READERS: dict[str, Callable[[Path], Evidence]] = {
    Predictions.kind: read_predictions,
    Confusions.kind: read_confusions,
    Detections.kind: read_detections,
}


def read_evidence(path: Path, kind: str) -> Evidence:
    """Read evidence of the kind that a record names.

    Raises:
        InputError: there is no such kind or file, or the file is damaged or contradicts itself.
    """
    if kind not in _READERS:
        raise InputError(
            f"{path} is evidence of the kind {kind!r:.40}, which this version does not read; known: "
            f"{', '.join(_READERS)}"
        )
    return _READERS[kind](path)
