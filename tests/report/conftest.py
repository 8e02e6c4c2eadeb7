"""One demo's records and the report on them, built once; two records to be compared."""

from pathlib import Path

import pytest
from predicted_results import right, write
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


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with the records of two methods, `a` and `b`, each with its predictions."""
    write(tmp_path / "a", {"top1": right(0.8, 0)})
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x")
    return tmp_path
