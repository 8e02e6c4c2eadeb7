"""Files and folders: never half written, never another's, and nothing left by whoever was killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from micl_bench.records.evidence.evidence import write_named_arrays
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_path, atomic_write, write_once
from micl_bench.runtime.folders import atomic_folder, files_below


def other(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process that runs some code, up to the point where it prints a line."""
    command = [sys.executable, "-c", f"from pathlib import Path\nimport sys, time\n{code}"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


WRITES_A_FILE = """
from micl_bench.runtime.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""
WRITES_A_FOLDER = """
from micl_bench.runtime.folders import atomic_folder
def fill(folder):
    (folder / "new").touch()
    print("ready", flush=True)
    sys.stdin.read()
atomic_folder(Path(sys.argv[1]), fill)
"""
KILLED_BETWEEN_RENAMES = """
import os, signal
from micl_bench.runtime.folders import atomic_folder
rename = Path.rename
def then_die(self, target):
    rename(self, target)
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = then_die
atomic_folder(Path(sys.argv[1]), lambda folder: (folder / "new").touch())
"""


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def filled(folder: Path) -> None:
    (folder / "mine").write_text("mine")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["x.json", "ö" * 120, "a" * 255], ids=["usual", "wide", "long"])
def test_two_writers_of_one_file_do_not_meet_in_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    slow = other(WRITES_A_FILE, path)
    atomic_write(path, b"mine")
    assert path.read_bytes() == b"mine"
    assert len(names(tmp_path)) == 2, "what the other writes is not removed under its hands"
    slow.communicate("")
    assert path.read_bytes() == b"half"
    assert names(tmp_path) == [name]


WRITES: list[Callable[[Path], object]] = [
    lambda path: atomic_write(path, b"mine"),
    lambda path: write_once(path, b"mine"),
    lambda path: write_named_arrays(path.parent, "evidence", {}),
]


@pytest.mark.parametrize("write", WRITES, ids=["replaced", "once", "named by content"])
def test_the_next_writer_removes_what_a_killed_one_left(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    # Hidden from others, and not ours.
    (tmp_path / ".notes.tmp").touch()
    kill(other(WRITES_A_FILE, tmp_path / "x.json"))
    assert len(names(tmp_path)) == 2
    write(tmp_path / "y.json")
    assert len(names(tmp_path)) == 2
    assert ".notes.tmp" in names(tmp_path)


def test_a_file_gets_the_rights_that_any_new_file_gets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    atomic_write(tmp_path / "ours", b"")
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "ours")}
    assert len(modes) == 1


def test_what_cannot_be_written_is_said_with_its_name(tmp_path: Path) -> None:
    def fail(error: Exception) -> None:
        with atomic_path(tmp_path / "x.pt"):
            raise error

    for error in (
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534\nmore"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ):
        with pytest.raises(OSError, match=r"x\.pt"):
            fail(error)
    with pytest.raises(RuntimeError, match="another"):
        fail(RuntimeError("another"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
def test_a_folder_whose_writer_was_killed_is_as_it_was(tmp_path: Path, before: bool) -> None:
    out = tmp_path / "out [1]"
    if before:
        atomic_folder(out, filled)
    kill(other(WRITES_A_FOLDER, out))
    assert out.exists() is before
    seen: list[bool] = []
    atomic_folder(out, filled, unless=lambda: bool(seen.append(out.exists())))
    assert seen == [before]
    assert names(out) == ["mine"]
    assert names(tmp_path) == ["out [1]"]


def test_a_kill_between_the_two_renames_loses_neither_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    atomic_folder(out, filled)
    kill(other(KILLED_BETWEEN_RENAMES, out))
    assert not out.exists()
    # Whatever the next call makes of it, the old one is back.
    atomic_folder(out, filled, unless=lambda: names(out) == ["mine"])
    assert names(out) == ["mine"]
    assert names(tmp_path) == ["out"]


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        filled(folder)
        raise OSError(28, "No space left on device")

    atomic_folder(tmp_path / "out", filled)
    with pytest.raises(OSError, match="No space"):
        atomic_folder(tmp_path / "out", full)
    with pytest.raises(OSError, match="No space"):
        atomic_folder(tmp_path / "deep" / "er" / "out", full)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["mine"]


def test_the_second_writer_of_a_folder_waits_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = other(WRITES_A_FOLDER, tmp_path / "out")
    assert first.stdin
    started = time.monotonic()

    def done() -> bool:
        # The first has given it its name before this one's turn came.
        return names(tmp_path / "out") == ["new"]

    threading.Timer(0.5, first.stdin.close).start()
    atomic_folder(tmp_path / "out", filled, unless=done)
    assert time.monotonic() - started > 0.4
    first.wait()
    assert names(tmp_path / "out") == ["new"]
    said = capsys.readouterr().err
    assert said.endswith(f"is writing {tmp_path / 'out'}; waiting for it\n")
    assert names(tmp_path) == ["out"]


def test_a_link_is_followed_and_a_mounted_disk_is_refused(tmp_path: Path) -> None:
    atomic_folder(tmp_path / "real", filled)
    (tmp_path / "link").symlink_to("real")
    atomic_folder(tmp_path / "link", lambda folder: (folder / "new").touch())
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["new"]
    with pytest.raises(InputError, match="where a disk is mounted"):
        atomic_folder(Path("/dev/shm" if os.path.ismount("/dev/shm") else "/"), filled)


@pytest.mark.parametrize("target", ["/", "..", ".", "/nowhere", "elsewhere"])
def test_files_below_are_listed_once_and_never_those_above(tmp_path: Path, target: str) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for file in (data / "a" / "1.png", data / ".hidden" / "2.png", elsewhere / "3.png"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (data / "a" / "link").symlink_to(elsewhere if target == "elsewhere" else target)
    found = {file.relative_to(data).as_posix() for file in files_below(data)}
    beside = {"elsewhere": {"a/link/3.png"}, "/nowhere": {"a/link"}}.get(target, set())
    assert found == {"a/1.png"} | beside
