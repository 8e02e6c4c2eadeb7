"""`bench knn` measures the search that the task runs, and says what it extrapolates."""

import json
from pathlib import Path

import pytest
import torch
from support import Run

from micl_bench.bench.knn import KnnSettings, bench_knn
from micl_bench.runtime.errors import InputError


def test_what_it_measured_is_written(micl_bench: Run, tmp_path: Path) -> None:
    sizes = ("--train", 20_000, "--width", 32, "--queries", 5000, "--measured", 1000, "--k", 20)
    done = micl_bench("bench", "knn", *sizes, "--rounds", 1, "--json", "knn.json")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "knn.json").read_text())
    assert content["benchmark"] == "knn"
    assert content["settings"]["queries"] == 5000
    (found,) = content["results"]
    assert (found["name"], found["queries_measured"]) == ("knn", 1000)
    half, whole = found["seconds_half"], found["seconds_measured"]
    line = whole + max(0, whole - half) / 500 * 4000
    assert found["seconds_extrapolated"] == pytest.approx(line, abs=0.1)
    assert found["peak_mib"] > 50
    lines = done.stdout.splitlines()
    assert lines[0] == "20,000 x 32 features, k = 20, on cpu"
    assert lines[-1].startswith("5,000 queries, extrapolated")


@pytest.mark.long
def test_the_budget_bounds_the_memory() -> None:
    # Without a bound: 100 MiB for a block, 46 for the result, 93 for what the queries need.
    sizes = {"train": 20_000, "width": 16, "queries": 20_000, "measured": 20_000, "k": 200}
    before = _anonymous()
    found = bench_knn(KnnSettings(**sizes, rounds=1, memory_mib=190), torch.device("cpu"))
    assert found["planned_mib_of_all"] == 190
    assert found["peak_mib"] - before < 190 + 20


def _anonymous() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k is 0; needed: 1 or more"),
        ({"train": 100, "k": 200}, "k is 200, of 100 features"),
        ({"measured": 1}, "measured is 1; needed: 2 or more"),
        ({"queries": 10}, "measured is 2048, of 10 queries"),
        ({"rounds": 0}, "rounds is 0; needed: 1 or more"),
    ],
)
def test_settings_that_measure_nothing_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        KnnSettings(**wrong)
