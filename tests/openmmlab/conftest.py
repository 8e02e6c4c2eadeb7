"""What the tests of the dense tasks share; without both libraries none of them is collected."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARIES = all(importlib.util.find_spec(name) for name in ("mmengine", "mmseg", "mmdet"))
collect_ignore_glob = [] if LIBRARIES else ["*.py"]

if LIBRARIES:
    # First of all: it puts the operators in place before mmdet asks.
    import micl_bench.openmmlab  # noqa: F401

    # isort: split
    from dense_runs import Server
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer
    from small_sets import small_ade20k, small_coco

    @pytest.fixture(autouse=True)
    def _no_trace() -> Iterator[None]:
        """Put back what mmengine keeps for the whole process."""
        kinds = (DefaultScope, MMLogger, MessageHub, Visualizer)
        before = [kind._instance_dict.copy() for kind in kinds]
        yield
        for kind, instances in zip(kinds, before, strict=True):
            kind._instance_dict = instances

    @pytest.fixture(scope="session")
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        """Real processes of `micl-bench` that begin at once."""
        server = Server(tmp_path_factory.mktemp("commands"))
        yield server
        server.close()

    @pytest.fixture
    def coco(embedded: Path, tmp_path: Path) -> Path:
        """A small copy of the embedded scenes, to be spoilt."""
        return small_coco(embedded, tmp_path / "coco")

    @pytest.fixture
    def ade20k(embedded: Path, tmp_path: Path) -> Path:
        """A small copy of the embedded scenes, to be spoilt."""
        return small_ade20k(embedded, tmp_path / "ade20k")
