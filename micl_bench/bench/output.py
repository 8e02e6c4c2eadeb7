"""What a benchmark found, for people and for programs."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from micl_bench.records.provenance import code_version, environment
from micl_bench.runtime.files import atomic_write


def write_figures(
    path: Path,
    *,
    benchmark: str,
    results: Sequence[dict[str, Any]],
    settings: dict[str, Any],
    load: float,
) -> None:
    """Write results with what they were measured on.

    Args:
        load: `machine_load` before the measurement.
    """
    content = {
        "benchmark": benchmark,
        "results": list(results),
        "settings": settings,
        "code_version": code_version(),
        "environment": environment(),
        "load_before": load,
    }
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())


def machine_load() -> float:
    """Processes that ran or waited to, on average over the last minute, ours not included yet."""
    return round(os.getloadavg()[0], 2)
