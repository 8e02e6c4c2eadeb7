"""Runs of one process are calls in the suite's own: nothing of one reaches the next, or the suite."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Run, good, losses

from micl_bench.cli.app import run
from micl_bench.records.store import read_results
from micl_bench.runs.meter import peak_memory
from micl_bench.runs.signals import StopSignals
from micl_bench.runtime.errors import Stopped
from micl_bench.suites.execute import execute
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.runs import Runner

# Each draws, trains or measures; bf16 on a CPU takes one thread for itself.
SUITE = """
data: {data}
checkpoints:
  MiCL:
    recipe: embedded
    data: {data}
    overrides: [epochs=2, batch_size=40, knn_every_epochs=1, optim.warmup_epochs=0, precision=bf16]
entries:
  - {{name: finetune, task: finetune, recipe: embedded_finetune, overrides: [training.epochs=1]}}
  - {{name: linear, task: linear, recipe: embedded_linear, overrides: [probe.epochs=2]}}
  - {{name: again, task: finetune, recipe: embedded_finetune, overrides: [training.epochs=1, seed=1]}}
"""


@pytest.mark.long
def test_each_command_gives_bit_for_bit_what_it_gives_alone(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    suite, together, alone = (tmp_path / name for name in ("s.yaml", "together", "alone"))
    suite.write_text(SUITE.format(data=few_digits))
    runs = expand(read_file(suite))
    outcomes = Runner(run, "s", runs, together).run()
    assert [outcome.problem for outcome in outcomes] == [""] * 4
    for one in runs:
        good(micl_bench(*one.arguments(alone)))
    for one in runs:
        places = (together / one.folder, alone / one.folder)
        (ours,), (theirs,) = (read_results(place) for place in places)
        numbers = [
            {name: one for name, one in result.metrics.items() if not one.of_machine}
            for result in (ours, theirs)
        ]
        assert numbers[0] == numbers[1] != {}
        assert ours.digests == theirs.digests
        assert ours.environment == theirs.environment
        rows, others = (losses(place) for place in places)
        assert rows == others
    assert rows


def run_once(call: Any, log: Path) -> tuple[int, str, list[str]]:
    shown: list[str] = []
    code, words = execute(call, ["a", "command"], log, shown.extend)
    return code, words, shown


def test_all_that_it_writes_is_in_its_log_and_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def call(arguments: list[str]) -> None:
        print(*arguments)
        os.write(2, b"from C\n")
        subprocess.run(["echo", "from a child"], check=True)
        warnings.simplefilter("error")
        print("error: the last words\n...", file=sys.stderr)
        raise SystemExit(2)

    before = sys.stdout, sys.stderr, list(warnings.filters)
    for _ in range(2):
        code, words, shown = run_once(call, tmp_path / "log.txt")
        assert (code, words) == (2, "error: the last words")
        assert {"a command", "from C", "from a child", "..."} <= set(shown)
    print("after")
    assert (sys.stdout, sys.stderr, warnings.filters) == before
    assert capfd.readouterr() == ("after\n", "")
    assert (tmp_path / "log.txt").read_text().count("from C") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.parametrize("trains", [False, True])
def test_a_signal_stops_the_run_and_whoever_called_it(
    tmp_path: Path, number: signal.Signals, trains: bool
) -> None:
    before = signal.getsignal(number)

    def call(arguments: list[str]) -> None:
        if not trains:
            os.kill(os.getpid(), number)
            time.sleep(60)
        with StopSignals() as asked:
            os.kill(os.getpid(), number)
            print("saving", file=sys.stderr)
        assert asked.signum == number
        raise SystemExit(0)

    with pytest.raises(Stopped, match=f"stopped by {number.name}; the same command") as stop:
        run_once(call, tmp_path / "log.txt")
    assert stop.value.signum == number
    assert ("saving" in (tmp_path / "log.txt").read_text()) == trains
    assert signal.getsignal(number) == before


def test_an_interrupt_is_passed_on_after_the_runs_own_line(tmp_path: Path) -> None:
    def call(arguments: list[str]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        run_once(call, tmp_path / "log.txt")


def test_a_runs_peak_of_memory_is_its_own(tmp_path: Path) -> None:
    peaks = []

    def call(arguments: list[str]) -> None:
        if not peaks:
            torch.ones(1 << 26)
        peaks.append(peak_memory(torch.device("cpu"))[0])

    for _ in range(2):
        run_once(call, tmp_path / "log.txt")
    assert peaks[1] < peaks[0] - 200
