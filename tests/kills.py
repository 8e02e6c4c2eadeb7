"""Kills: a command is started, struck at some moment, and looked after; then it is called again.

struck = strike(words, signal.SIGKILL, when=lambda: (out / "metrics.jsonl").exists())
assert struck.left == []
assert again(words).returncode == 0
assert content(out) == content(undisturbed)
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import Command

_MARK = "MICL_BENCH_TEST_STRUCK"
# A helper process looks for its parent every second; a busy machine is slow to let it.
_SECONDS_TO_END = 20.0
_LONGEST_SECONDS = 300.0
_BEGUN_SECONDS = 0.1

_CHANGES = {
    *("os.rename", "os.link", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"),
    "fcntl.flock",
}

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


@dataclasses.dataclass(frozen=True)
class Forked:
    """What became of a command that was forked from a process with torch, which takes no time."""

    done: "subprocess.CompletedProcess[str]"
    seconds: float
    changes: int
    """How often it was about to change something in its working folder."""
    left: list[str]
    """Its processes that were still there long after it."""


def forked(
    arguments: Sequence[object],
    *,
    cwd: Path,
    number: signal.Signals = signal.SIGKILL,
    after: float | None = None,
    at_change: int = 0,
    whole_group: bool = False,
    environment: dict[str, str] | None = None,
) -> Forked:
    """Run a command, and send it a signal so many seconds after its start, or neither.

    Args:
        at_change: it sends itself the signal as it is about to do its so-manieth change to its working
            folder: to open a file for writing, to lock, rename, link or remove one, or to make a folder.
        whole_group: send it to all of its processes, as Ctrl-C in a terminal does.
    """
    mark, began = uuid.uuid4().hex, time.monotonic()
    with tempfile.NamedTemporaryFile() as counted:
        begin = partial(
            _begin, {**(environment or {}), _MARK: mark}, counted.name, at_change, number
        )
        process = Command(*arguments, cwd=cwd, begin=begin)
        try:
            if after is not None:
                while process.is_running() and os.getsid(process.pid) != process.pid:
                    time.sleep(0.002)
                # Interrupted before a program's first line is through, Python prints a trace.
                time.sleep(_BEGUN_SECONDS if number == signal.SIGINT else 0)
                while process.is_running() and time.monotonic() - began < after:
                    time.sleep(0.002)
                with contextlib.suppress(ProcessLookupError):
                    (os.killpg if whole_group else os.kill)(process.pid, number)
            done, seconds = process.wait(), time.monotonic() - began
            end = time.monotonic() + _SECONDS_TO_END
            while (left := marked(mark, process.pid)) and time.monotonic() < end:
                time.sleep(0.05)
            return Forked(done, seconds, len(Path(counted.name).read_bytes()), left)
        finally:
            for number_left in marked(mark, process.pid):
                os.kill(int(number_left), signal.SIGKILL)


def _begin(
    environment: dict[str, str], counted: str, at_change: int, number: signal.Signals
) -> None:
    """Lead a session, and count changes to the working folder in the length of a file."""
    os.environ.update(environment)
    own, here, seen = os.getpid(), Path.cwd(), 0
    handle = os.open(counted, os.O_WRONLY | os.O_APPEND)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        place = arguments[0] if arguments else None
        if event == "open":
            changes = not isinstance(place, int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        else:
            changes = event in _CHANGES
        if not changes or os.getpid() != own:
            return
        # What has a descriptor for a name was opened by its name before.
        if isinstance(place, int) or here in (here / os.fsdecode(place)).parents:
            seen += 1
            os.write(handle, b".")
            if seen == at_change:
                os.kill(own, number)

    sys.addaudithook(hook)
    # Last of all: who strikes waits for it.
    os.setsid()


def _run(mark: str, number: int) -> bool:
    return number == 1 or len(marked(mark)) >= number


def marked(mark: str, session: int = -1) -> list[str]:
    """Processes that were started by a struck command, or by one of its own.

    Args:
        session: whoever is in it counts too; a process that was forked has its parent's environment.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes()
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if (is_ours or int(fields[3]) == session) and fields[0] != "Z":
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


def no_trace(struck: "Struck | subprocess.CompletedProcess[str]") -> bool:
    """Whether a command that was ended said so in no more than its progress and one line."""
    return "Traceback" not in struck.stderr and "Exception ignored" not in struck.stderr
