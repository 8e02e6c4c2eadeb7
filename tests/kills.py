"""Kills: a command is started, struck at some moment, and looked after; then it is called again.

struck = strike(words, signal.SIGKILL, when=lambda: (out / "metrics.jsonl").exists())
assert struck.left == []
assert again(words).returncode == 0
assert content(out) == content(undisturbed)
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

_MARK = "MICL_BENCH_TEST_STRUCK"
# A helper process looks for its parent every second; a busy machine is slow to let it.
_SECONDS_TO_END = 20.0
_LONGEST_SECONDS = 300.0

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"
)


@dataclasses.dataclass(frozen=True)
class Struck:
    """What became of a command that got a signal."""

    code: int
    stdout: str
    stderr: str
    in_time: bool
    """Whether the signal came before its end."""
    left: list[str]
    """Its processes that were still there long after it."""


def command(arguments: Sequence[object]) -> list[str]:
    """`micl-bench` as a program of its own."""
    return [sys.executable, "-m", "micl_bench", *map(str, arguments)]


def strike(
    arguments: Sequence[object],
    number: signal.Signals,
    *,
    when: Callable[[], bool] = lambda: True,
    processes: int = 1,
    after: float = 0.0,
    whole_group: bool = False,
    cwd: Path | None = None,
) -> Struck:
    """Start a command and send it a signal.

    Args:
        when: asked again and again; the signal comes when it is true,
        processes: and so many processes run, the command's own among them,
        after: so many seconds later.
        whole_group: send it to all of its processes, as Ctrl-C in a terminal does.
    """
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command(arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=cwd,
        start_new_session=True,
        env={**os.environ, _MARK: mark, "OMP_NUM_THREADS": "1"},
    )
    try:
        end = time.monotonic() + _LONGEST_SECONDS
        while process.poll() is None and not (when() and _run(mark, processes)):
            assert time.monotonic() < end, "the moment never came"
            time.sleep(0.005)
        time.sleep(after)
        in_time = process.poll() is None
        if in_time:
            (os.killpg if whole_group else os.kill)(process.pid, number)
        stdout, stderr = process.communicate(timeout=_LONGEST_SECONDS)
        end = time.monotonic() + _SECONDS_TO_END
        while (left := marked(mark)) and time.monotonic() < end:
            time.sleep(0.05)
        return Struck(process.returncode, stdout, stderr, in_time, left)
    finally:
        for number_left in marked(mark):
            os.kill(int(number_left), signal.SIGKILL)


def _run(mark: str, number: int) -> bool:
    return number == 1 or len(marked(mark)) >= number


def marked(mark: str) -> list[str]:
    """Processes that were started by a struck command, or by one of its own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes()
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except OSError:
            continue
        if is_ours and state != "Z":
            found.append(folder.name)
    return found


def again(
    arguments: Sequence[object], cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """The same command, undisturbed."""
    return subprocess.run(
        command(arguments),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=_LONGEST_SECONDS,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def content(root: Path) -> dict[str, bytes]:
    """Files below a folder by name, or one file."""
    if root.is_file():
        return {"": root.read_bytes()}
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def temporaries(*roots: Path) -> list[Path]:
    """What a killed process may leave and the next one should have removed."""
    return [
        path
        for root in roots
        for path in root.rglob("*")
        if path.name.endswith((".tmp", ".lock", ".pending"))
    ]


def no_trace(struck: Struck) -> bool:
    """Whether a command that was ended said so in no more than its progress and one line."""
    return "Traceback" not in struck.stderr and "Exception ignored" not in struck.stderr
