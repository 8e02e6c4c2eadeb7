"""One demo's records and the report on them, built once."""

from pathlib import Path

import pytest
from synthetic_results import write_demo

from micl_bench.report import build_report


@pytest.fixture(scope="session")
def demo_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "results"
    write_demo(folder)
    return folder


@pytest.fixture(scope="session")
def demo_report(demo_results: Path) -> Path:
    return build_report(demo_results, demo_results.parent / "report", title="A demo")
