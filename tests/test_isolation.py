"""What the tests start finds neither the user's files nor the user's settings."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from isolation import isolate
from support import Run

from micl_bench.runtime.files import cache_folder

SETTINGS = {
    "MICL_BENCH_PLUGINS": "/plugins",
    "HF_TOKEN": "secret",
    "XDG_CACHE_HOME": "/caches",
    "SLURM_JOB_ID": "7",
    "WORLD_SIZE": "8",
    "COLUMNS": "13",
}


def test_home_and_cache_are_the_tests_own() -> None:
    own = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert not Path.home().is_relative_to(own)
    assert Path.home().name.startswith("micl-bench-tests-")
    assert not cache_folder().is_relative_to(own)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_user_are_taken_away(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MICL_BENCH_CACHE", os.environ["MICL_BENCH_CACHE"])
    monkeypatch.setenv(name, SETTINGS[name])
    isolate()
    assert name not in os.environ


def test_a_process_that_a_test_starts_has_the_same_home() -> None:
    code = "from pathlib import Path; print(Path.home())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(Path.home())


def test_a_command_keeps_its_features_in_the_tests_cache(
    micl_bench: Run, few_digits: Path, checkout: Path
) -> None:
    before = set(cache_folder().glob("features/*"))
    done = micl_bench(
        *("eval", "knn", "--checkpoint", "random:vit_demo_patch4_32", "--data", few_digits),
        *("--recipe", "downstream/embedded_knn.py", "--set", "seed=4711", "--out", "knn"),
        cwd=checkout,
    )
    assert done.returncode == 0, done.stderr
    assert set(cache_folder().glob("features/*")) > before
    assert {path.name for path in checkout.iterdir()} == {
        "pretrain",
        "downstream",
        "results",
        "knn",
    }
