"""The file that a benchmark writes."""

from pathlib import Path
from typing import Any


def write(
    file: Path | None,
    benchmark: str,
    results: list[dict[str, Any]],
    settings: dict[str, Any],
    load: float,
) -> None:
    """Write results, with their settings and machine, where a file was asked for."""
    from micl_bench.bench.machine import write_figures

    if file:
        write_figures(file, benchmark=benchmark, results=results, settings=settings, load=load)
