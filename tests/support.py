"""Names that test modules share: `micl-bench` as real processes, and what a run left."""

import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from micl_bench.cli.app import main, run
from micl_bench.runtime.log import read_metrics

REPOSITORY = Path(__file__).resolve().parents[1]


def documentation() -> dict[Path, str]:
    """Text of the README and of each page of docs/, in the order in which the README leads to them."""
    readme = REPOSITORY / "README.md"
    text = readme.read_text(encoding="utf-8")
    names = dict.fromkeys(re.findall(r"\]\((docs/\w+\.md)\)", text))
    pages = {REPOSITORY / name: (REPOSITORY / name).read_text(encoding="utf-8") for name in names}
    return {readme: text, **pages}


def exit_code(*words: object) -> int:
    """Do a command in this process."""
    try:
        run([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


Run = Callable[..., subprocess.CompletedProcess[str]]
"""`run(*arguments, cwd=...)`: `micl-bench` as a process of its own."""

# Processes are forked from a server that has imported torch and timm, which takes a new interpreter
# several seconds; the server itself runs nothing.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["micl_bench.engine.pretraining.pretrain", "torch.utils.tensorboard"]
)


class Command:
    """One `micl-bench` process.

    Args:
        largest_file: bytes beyond which its writes fail, as on a full disk.
        largest_memory: bytes of data that it cannot have more of.
        peak: file that it writes its largest resident memory to, in bytes, as it ends.
        begin: called in the process before the command.
    """

    def __init__(
        self,
        *arguments: object,
        cwd: Path | None = None,
        largest_file: int = 0,
        largest_memory: int = 0,
        peak: Path | None = None,
        begin: Callable[[], object] | None = None,
    ) -> None:
        self.args = ["micl-bench", *map(str, arguments)]
        self._texts = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115
        names = [text.name for text in self._texts]
        limits = {resource.RLIMIT_FSIZE: largest_file, resource.RLIMIT_DATA: largest_memory}
        options = (self.args, str(cwd or Path.cwd()), dict(os.environ), names, limits, peak, begin)
        self._process = _CONTEXT.Process(target=_be_micl_bench, args=options)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> subprocess.CompletedProcess[str]:
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        stdout, stderr = (text.read() for text in self._texts)
        return subprocess.CompletedProcess(self.args, code, stdout, stderr)


def _be_micl_bench(
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    names: list[str],
    limits: dict[int, int],
    peak: Path | None,
    begin: Callable[[], object] | None,
) -> None:
    for descriptor, name in zip((1, 2), names, strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    # What multiprocessing and its server changed, as a shell would start it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    for kind, limit in limits.items():
        if limit:
            resource.setrlimit(kind, (limit, limit))
    sys.argv = arguments
    if begin:
        begin()
    try:
        main()
    finally:
        if peak:
            peak.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10))


def torchrun(processes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Start real processes that train together, with gloo, on a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "tests")}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment
    )


def good(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same, which must have done its work."""
    assert done.returncode == 0, done.stderr
    return done


def refused(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same, whose input must have been refused."""
    assert done.returncode == 2, done.stderr
    return done


def overrides(*values: str) -> list[str]:
    """The words of a command that change values of its recipe."""
    return [word for value in values for word in ("--set", value)]


def finish(words: Sequence[object]) -> str:
    """Run a command to its end, which must be a good one; what it said."""
    return good(Command(*words).wait()).stderr


def signalled(words: Sequence[object], out: Path, step: int, number: signal.Signals) -> str:
    """Run a command, and send it a signal after so many steps; what it said."""
    command = Command(*words)
    while len(losses(out)) < step and command.is_running():
        time.sleep(0.005)
    command.send(number)
    done = command.wait()
    assert done.returncode == (-number if number is signal.SIGKILL else 0), done.stderr
    return done.stderr


def record_in(out: Path, task: str) -> dict[str, Any]:
    """The one record of a task in a folder, as JSON has it."""
    (path,) = out.glob(f"{task}-*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def losses(out: Path) -> list[float]:
    """The loss of every step of a pre-training run so far."""
    return [row["loss"] for row in read_metrics(out / "metrics.jsonl") if "loss" in row]


def values_in(record: dict[str, Any]) -> dict[str, float | None]:
    """The value of each metric of a record as JSON has it."""
    return {name: number["value"] for name, number in record["metrics"].items()}


def intervals_in(record: dict[str, Any]) -> dict[str, list[float]]:
    """Both ends of the interval of each metric of a record that has one."""
    return {
        name: [number["low"], number["high"]]
        for name, number in record["metrics"].items()
        if number["low"] is not None
    }
