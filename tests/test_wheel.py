"""The wheel is the product: installed away from the checkout, it has all that it names."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support import REPOSITORY, Run, good

from micl_bench.runtime.shipped import recipes, suites

pytestmark = pytest.mark.long

SHIPPED = ("micl_bench", "pretrain", "downstream", "results")
UPERNET = (
    "from micl_bench.openmmlab.configs import read\n"
    "print(read('ade20k_upernet_vit_l16_ms', ()).filename)"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources: building leaves files beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / "src" / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "src")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    options = ["--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *options, str(folder / "src")], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    shutil.rmtree(folder / "src")
    return found


@pytest.fixture(scope="module")
def bin_folder(wheel: Path) -> Path:
    """Of an environment that holds the wheel, and borrows what it depends on from this one."""
    folder = wheel.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    own = Path(sysconfig.get_path("purelib"))
    before = sorted(own.iterdir())
    # Else pip removes the package from the environment that the tests run in.
    installed = [sys.executable, "-m", "pip", "install", "--ignore-installed", "--no-deps"]
    options = ["--no-index", "--quiet", "--prefix", str(folder)]
    subprocess.run([*installed, *options, str(wheel)], check=True)
    assert sorted(own.iterdir()) == before
    ours = [path for path in sys.path if path.endswith("site-packages")]
    # Read after the environment's own folder, so that the checkout, which is named there, stays hidden.
    (site / "borrowed.pth").write_text("\n".join(ours))
    return folder / "bin"


@pytest.fixture
def installed(bin_folder: Path, tmp_path: Path) -> Run:
    """Run a program of that environment in an empty folder."""

    def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(bin_folder / program), *map(str, arguments)]
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        options = {"capture_output": True, "text": True, "check": False, "env": clean}
        return good(subprocess.run(words, cwd=tmp_path, **options))

    return run


def test_it_is_the_wheel_that_runs_and_it_lists_every_recipe_and_suite(
    installed: Run, bin_folder: Path
) -> None:
    code = "import micl_bench; print(micl_bench.__file__)"
    assert installed("python", "-c", code).stdout.startswith(str(bin_folder.parent))
    for kind, known in (("recipes", recipes()), ("suites", suites())):
        lines = installed("micl-bench", "list", kind).stdout.splitlines()
        assert [line.split()[0] for line in lines] == list(known)
        assert all(len(line.split()) > 3 for line in lines)


def test_it_pretrains_and_evaluates_by_name(
    installed: Run, few_digits: Path, tmp_path: Path
) -> None:
    short = ("--set", "epochs=1", "--set", "knn_every_epochs=0", "--set", "batch_size=40")
    installed("micl-bench", "pretrain", "embedded", "--data", few_digits, "--out", "micl", *short)
    installed(
        *("micl-bench", "eval", "knn", "--checkpoint", "micl/backbone.pt", "--recipe"),
        *("embedded_knn", "--data", few_digits, "--out", "knn", "--set", "k=5"),
    )
    (record,) = (tmp_path / "knn").glob("knn-*.json")
    assert "--recipe embedded_knn" in record.read_text()


def test_it_plans_the_suite_of_the_demo(installed: Run) -> None:
    done = installed("micl-bench", "suite", "run", "embedded", "--out", "store", "--dry-run")
    commands = [line for line in done.stdout.splitlines() if line.startswith("micl-bench ")]
    assert len(commands) == 19


def test_it_reads_a_config_with_its_bases_by_name(installed: Run, bin_folder: Path) -> None:
    pytest.importorskip("mmengine")
    place = installed("python", "-c", UPERNET).stdout.splitlines()[-1]
    assert place.startswith(str(bin_folder.parent))
