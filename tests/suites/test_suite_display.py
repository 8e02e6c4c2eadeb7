"""What is seen while a suite runs: on a real terminal, and elsewhere."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import REPOSITORY, Run

from micl_bench.suites.display import Display
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.run import Run as Planned

SUITE = """
task: knn
data: {data}
recipe: {root}/downstream/embedded_knn.py
overrides: ['ks=[5]']
checkpoints: {{"a [bold] name": "random:vit_demo_patch4_32"}}
entries:
  - {{name: first, matrix: {{k: [5, 10]}}}}
  - {{name: bad, data: none}}
"""


@pytest.fixture
def suite(few_digits: Path, tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.format(data=few_digits, root=REPOSITORY))
    return path


def on_a_terminal(*words: object) -> str:
    """What a command shows on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "micl_bench", *map(str, words)],
        stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    seen, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                seen += os.read(ours, 1 << 16)
            except OSError:
                break
    assert process.wait(30) == 1
    os.close(ours)
    return seen.decode(errors="replace")


@pytest.mark.long
def test_a_terminal_shows_a_bar_the_run_its_last_line_and_the_counts(
    suite: Path, tmp_path: Path
) -> None:
    seen = on_a_terminal("suite", "run", suite, "--out", tmp_path / "store")
    assert "\x1b[?25l" in seen  # the cursor is hidden, and comes back
    assert seen.rstrip().endswith("\x1b[?25h")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "━" in plain
    assert "0/3" in plain
    assert "1/3" in plain
    assert re.search(r"3/3 0:\d\d:\d\d 1 failed", plain)
    assert re.search(r"0/3 0:\d\d:\d\d first/a \[bold\] name/k=5", plain)
    # Its lines are looked at now and then, but the last one of a run always.
    assert "knn  digits  a [bold] name: top1" in plain
    assert "done  first/a [bold] name/k=10  took" in plain
    # Rewritten in place: far fewer lines than pictures.
    assert len(re.findall("[0-3]/3 0:", plain)) > 5


@pytest.mark.long
def test_elsewhere_it_is_plain_lines(micl_bench: Run, suite: Path, tmp_path: Path) -> None:
    done = micl_bench("suite", "run", suite, "--out", tmp_path / "store")
    assert "\x1b" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "[1/3] first/a [bold] name/k=5"
    assert lines[1].startswith("  micl-bench eval knn --checkpoint random:")
    assert "  k-NN  100%" in done.stderr
    assert any(line.startswith("[2/3]") for line in lines)
    assert any(line.startswith("failed  bad/a [bold] name  no image folder") for line in lines)


def runs(suite: Path) -> list[Planned]:
    return expand(read_file(suite))


def test_what_it_prints_is_printable_and_a_wait_is_said_once(
    suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, bad = runs(suite)
    with Display(total=3) as display:
        display.found([first])
        display.began(second, "micl-bench eval\x1b[2J")
        display.lines(["half"])
        display.ended(second, "took 0:01")
        display.waiting([bad])
        display.waiting([bad])
    said = capsys.readouterr().err
    assert "[2/3] first/a [bold] name/k=10\n" in said
    assert said.count("waiting for what another suite is making: bad/") == 1
    assert "eval\x1b" not in said
