"""Processes that help: they end with the one they help, without a trace, and are not waited for."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import command, needs_proc, no_trace, strike
from PIL import Image
from support import refused, torchrun
from torch.utils.data import Dataset

from micl_bench.bench.machine import in_own_process
from micl_bench.data import workers
from micl_bench.data.workers import Loader
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.locks import turn
from micl_bench.runtime.processes import explained

MODEL = "random:vit_demo_patch4_32"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,200 images, most of them links: seconds of work for two processes."""
    root = tmp_path_factory.mktemp("many")
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    Image.fromarray(pixels).save(root / "one.png")
    for number in range(1200):
        link = root / "images" / f"class {number % 2}" / f"{number:04d}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(root / "one.png")
    return root / "images"


def pack(images: Path, out: Path) -> list[object]:
    size = ("--layout", "patch", "--size", 32, "--patch-size", 8, "--workers", 2)
    return ["data", "pack", "--images", images, "--out", out, *size]


def features(images: Path, out: Path) -> list[object]:
    words = ("--checkpoint", MODEL, "--images", images, "--out", out, "--workers", 2)
    return ["features", *words, "--batch-size", 16]


SWALLOWS = """
import time
from micl_bench.runtime.processes import guard_interrupts

class Finalised:
    def __del__(self):
        print("now", flush=True)
        time.sleep(60)

guard_interrupts()
try:
    Finalised()
    time.sleep(60)
except KeyboardInterrupt:
    print("ended")
"""


def test_an_interrupt_that_is_swallowed_comes_again() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SWALLOWS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    # Python prints nothing of the exception that it ignored.
    assert process.communicate(timeout=30) == ("ended\n", None)


@pytest.mark.long
@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize(
    "at_work",
    [pytest.param(False, marks=pytest.mark.long), True],
    ids=["as they start", "as they work"],
)
def test_a_packing_that_is_ended_leaves_no_process(
    many: Path, tmp_path: Path, number: signal.Signals, at_work: bool
) -> None:
    journal = tmp_path / "store" / "journal.jsonl"

    def when() -> bool:
        return journal.exists() and (not at_work or "sha256" in journal.read_text())

    struck = strike(
        pack(many, tmp_path / "store"),
        number,
        when=when,
        processes=3,
        whole_group=number == signal.SIGINT,
    )
    assert struck.in_time
    assert struck.left == []
    if number == signal.SIGINT:
        assert no_trace(struck), struck.stderr
        assert struck.code == 130
        assert struck.stderr.splitlines()[-1].startswith("interrupted; ")


@pytest.mark.long
@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_readers_of_images_end_with_the_one_that_reads(
    many: Path, tmp_path: Path, number: signal.Signals
) -> None:
    struck = strike(
        features(many, tmp_path / "out.npz"),
        number,
        processes=3,
        after=0.5,
        whole_group=number == signal.SIGINT,
    )
    assert struck.in_time
    assert struck.left == []
    assert no_trace(struck), struck.stderr
    assert struck.code == (130 if number == signal.SIGINT else -number)
    assert not (tmp_path / "out.npz").exists()


class _Items(Dataset):
    def __init__(self, what: str) -> None:
        self.what = what

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 3:
            if self.what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "ended":
                os._exit(5)
            if self.what == "full":
                workers._not_sent(RuntimeError("No space left on device (28)"), None)
            if self.what == "hangs":
                signal.pause()
            if self.what == "refuses":
                raise InputError("this image is bad")
        return torch.zeros(4)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("killed", "was killed, which a system does where memory runs out"),
        ("ended", "ended with exit code 5"),
        ("full", "found no room in /dev/shm; set num_workers=0"),
        ("hangs", r"no worker has sent a batch for 0\.0"),
        ("refuses", "^this image is bad$"),
    ],
)
def test_what_becomes_of_a_reader_is_one_line(
    what: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_LONGEST_WAIT_SECONDS", 2.0)
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.5)
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(InputError, match=words):
        list(Loader(_Items(what), batch_size=None, num_workers=2))
    # torch's own would raise for the second process that dies, at a moment of its own.
    assert signal.getsignal(signal.SIGCHLD) == before


_READS = """
import time
from micl_bench.data import workers
workers._LONGEST_WAIT_SECONDS, workers._LOOK_SECONDS = 3.0, 0.2
class Items(list):
    def __getitem__(self, index):
        if index == 1:
            print("waits", flush=True)
            for _ in range(15): time.sleep(0.1)
        return index
if __name__ == "__main__":
    assert list(workers.Loader(Items(range(3)), batch_size=None, num_workers=1)) == [0, 1, 2]
    print("done")
"""


@pytest.mark.long
def test_a_job_that_was_stopped_as_a_whole_has_not_waited_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(_READS)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "waits\n"
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(4)
        os.killpg(process.pid, signal.SIGCONT)
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert said == "done\n", errors


def test_a_lock_is_one_processs_and_leaves_nothing(tmp_path: Path) -> None:
    path, said = tmp_path / "new" / "folder" / "lock", []
    holds = "import sys; from pathlib import Path; from micl_bench.runtime.locks import turn"
    holds += "\nwith turn(Path(sys.argv[1]), 'at it'): print('ready', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", holds, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(InputError, match="wait for it, or stop it"), turn(path, "at it"):
        pass
    threading.Timer(0.5, process.kill).start()
    with turn(path, "at it", on_wait=said.append):
        assert process.wait(5) == -signal.SIGKILL
    assert said == ["another process is at it; waiting for it"]
    assert list(path.parent.iterdir()) == []


def test_a_loader_without_processes_gives_the_same(tmp_path: Path) -> None:
    one, two = (
        torch.stack(list(Loader(_Items(""), batch_size=2, num_workers=number))) for number in (0, 2)
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_loader_draws_nothing_from_the_generator_that_all_threads_share(processes: int) -> None:
    before = torch.get_rng_state()
    assert len(list(Loader(_Items(""), batch_size=None, num_workers=processes))) == 6
    assert torch.equal(torch.get_rng_state(), before)


def small_memory(size: str, words: list[object]) -> "subprocess.CompletedProcess[str]":
    """The command where /dev/shm has so much room, in a mount namespace of its own."""
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command(words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def may_mount() -> bool:
    if os.geteuid() or not shutil.which("unshare"):
        return False
    words = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /dev/shm"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs the right to mount a small disk")
@pytest.mark.parametrize(
    "size", ["16k", *(pytest.param(size, marks=pytest.mark.long) for size in ("200k", "300k"))]
)
def test_a_small_shared_memory_is_said_and_never_waited_for(
    many: Path, tmp_path: Path, size: str
) -> None:
    done = refused(small_memory(size, features(many, tmp_path / "out.npz")))
    assert "/dev/shm" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_measured_process_that_is_killed_is_not_waited_for() -> None:
    with pytest.raises(InputError, match="was killed, which a system does where memory runs out"):
        in_own_process(_killed)


@needs_proc
def test_processes_that_train_together_say_who_is_missing(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\n"
        "from micl_bench.runtime.distributed import any_process, process_group\n"
        "from micl_bench.runtime.errors import InputError\n"
        "try:\n"
        "    with process_group():\n"
        "        if os.environ['RANK'] == '1': os._exit(0)\n"
        "        any_process(True)\n"
        "except InputError as error:\n"
        "    print('line:', error)\n"
    )
    (tmp_path / "program.py").write_text(code)
    done = torchrun(2, tmp_path / "program.py")
    assert "line: another of the processes that work together ended early" in done.stdout, done


@pytest.mark.long
@pytest.mark.parametrize("missing", ["MASTER_ADDR", "RANK"])
def test_processes_that_do_not_find_each_other_are_one_line(tmp_path: Path, missing: str) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    del place[missing]
    environment = {**os.environ, **place, "OMP_NUM_THREADS": "1"}
    words = features(tmp_path, tmp_path / "out.npz")
    done = subprocess.run(
        command(words), capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "did not find each other" in line
    assert missing in line


def test_what_the_system_refuses_is_explained() -> None:
    for error, words in (
        (MemoryError(), "too little memory"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU has too little"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error."), "/dev/shm"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."), "was killed"),
    ):
        assert words in explained(error)
        assert len(explained(error).splitlines()) == 1
    assert explained(KeyError("x")) == ""
    assert explained(ValueError("shapes do not fit")) == ""
