"""Fixtures for all tests: the embedded data set, small models, the command line as a process."""

import os
import subprocess
from pathlib import Path

import pytest
from isolation import isolate, remove_home

isolate()

from support import REPOSITORY, Command, Run  # noqa: E402

from micl_bench.data.embedded import write_embedded  # noqa: E402


def pytest_unconfigure(config: pytest.Config) -> None:
    """The first process, which ends last, removes what it made."""
    if not hasattr(config, "workerinput"):
        remove_home()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Stored features go where the tests' other files go."""
    os.environ["MICL_BENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A working folder like that of a checkout, whose `work/` no demo has written to."""
    for folder in ("pretrain", "downstream", "results"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    return tmp_path


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded data set of seed 0, built once. Read only."""
    folder = tmp_path_factory.mktemp("embedded") / "data"
    write_embedded(folder)
    return folder


@pytest.fixture(scope="session")
def few_digits(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four held-out scans of each digit, for runs that only need to run."""
    folder = tmp_path_factory.mktemp("few") / "digits"
    for split, number in (("train", 8), ("val", 4)):
        for source in sorted((embedded / "embedded" / split).iterdir()):
            target = folder / split / source.name
            target.mkdir(parents=True)
            for image in sorted(source.iterdir())[:number]:
                (target / image.name).symlink_to(image)
    return folder


@pytest.fixture
def micl_bench(tmp_path: Path) -> Run:
    """Run `micl-bench` as a user does: its own process, in an empty folder."""

    def run(*arguments: object, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return Command(*arguments, cwd=cwd).wait()

    return run
