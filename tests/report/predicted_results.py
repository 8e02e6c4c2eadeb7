"""Records with what was predicted for each image beside them, and their comparison."""

from pathlib import Path
from typing import Any

import numpy as np
from synthetic_results import result

from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import Result, write_result
from micl_bench.report.compare.comparison import Comparison, compare_all
from micl_bench.report.compare.contenders import read_contenders

M = 400
FILES = tuple(f"class/{index:04d}.png" for index in range(M))
EVIDENCE = "predictions-knn.npz"


def right(share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(M) < share).astype(np.int8)


def write(
    folder: Path,
    correct: dict[str, np.ndarray],
    *,
    files: tuple[str, ...] = FILES,
    metrics: dict[str, float] | None = None,
    differences: dict[str, tuple[str, str]] | None = None,
    scores: dict[str, np.ndarray] | None = None,
    **changes: Any,
) -> Result:
    """A record with its predictions beside it."""
    none = np.full(len(files), -1)
    predictions = Predictions(
        files=files,
        classes=("one", "two"),
        labels_M=none,
        predicted=dict.fromkeys(correct, none),
        correct=correct,
        differences=differences or {},
        scores=scores or {},
    )
    accuracies = {name: predictions.accuracy(name) for name in correct}
    record = result(
        metrics={**accuracies, **(metrics or {})},
        data={"images": len(files)},
        artifacts={"evidence": EVIDENCE},
        evidence="predictions",
        **changes,
    )
    predictions.write(folder / EVIDENCE)
    write_result(record, folder)
    return record


def compared(*folders: Path) -> Comparison:
    return compare_all(read_contenders(folders))


def overwrite(folder: Path, correct: dict[str, np.ndarray], **changes: Any) -> None:
    """Put other predictions in the place of those beside a record."""
    none = np.full(M, -1)
    fields: dict[str, Any] = {"classes": (), "labels_M": none, "predicted": {}, **changes}
    Predictions(files=FILES, correct=correct, **fields).write(folder / EVIDENCE)
