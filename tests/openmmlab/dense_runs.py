"""`micl-bench eval ade20k|coco` as real processes, forked from one that has imported both libraries
(which takes a new interpreter ten seconds), and small configs of everything that draws at random.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DOWNSTREAM = Path(__file__).resolve().parents[2] / "downstream"
STEPS, BATCH = 16, 4
RANDOM = "random:vit_demo_patch4_32"

_CHANGES = f"""
steps = {STEPS}
auto_scale_lr = dict(enable=False, base_batch_size={BATCH})
optim_wrapper["accumulative_counts"] = 1
train_cfg.update(max_iters=steps, val_interval=12)
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = 5
param_scheduler[1]["end"] = steps
model["backbone"]["drop_path"] = 0.2
train_dataloader["dataset"]["indices"] = 22
# An odd number: no two processes have the same share.
val_dataloader["dataset"]["indices"] = 7
val_dataloader["batch_size"] = 2
default_hooks["checkpoint"] = dict(type="CheckpointHook", by_epoch=False, interval=3)
custom_hooks = [dict(type="EMAHook", momentum=0.1)]
"""
_FLIPS = {
    "ade20k": """
train_pipeline[2:3] = [
    dict(type="RandomResize", scale=(side, side), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(side, side)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
]
""",
    "coco": """
train_pipeline[2:3] = [
    dict(type="RandomResize", scale=(side, side), ratio_range=(0.6, 1.5), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
]
train_dataloader["batch_sampler"] = dict(type="AspectRatioBatchSampler")
""",
}
_FILES = {"ade20k": "embedded_upernet.py", "coco": "embedded_mask_rcnn.py"}


def write_config(path: Path, task: str, more: str = "") -> Path:
    """A small config of a task that draws at random wherever one can."""
    path.write_text((DOWNSTREAM / _FILES[task]).read_text() + _CHANGES + _FLIPS[task] + more)
    return path


def words(task: str, config: Path, data: Path, out: Path, *sets: str) -> list[str]:
    """The command line."""
    command = ["eval", task, "--checkpoint", RANDOM, "--recipe", config, "--out", out]
    command += ["--data", data / f"embedded-{task}"]
    return [*map(str, command), *(word for value in sets for word in ("--set", value))]


class Server:
    """Forks `micl-bench` as often as asked."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, arguments: list[str], **environment: str) -> "Forked":
        self._number += 1
        errors = self._folder / str(self._number)
        pid = self.ask(arguments=arguments, errors=str(errors), environment=environment)
        return Forked(self, pid, errors)

    def start_together(self, processes: int, arguments: list[str]) -> list["Forked"]:
        """As torchrun starts them."""
        with socket.socket() as free:
            free.bind(("", 0))
            port = str(free.getsockname()[1])
        group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        return [
            self.start(arguments, RANK=str(rank), LOCAL_RANK=str(rank), **group)
            for rank in range(processes)
        ]

    def run(self, arguments: list[str], *, processes: int = 1, code: int = 0) -> str:
        """To the end, with this exit code; what all of them said on standard error."""
        started = [self.start(arguments)] if processes == 1 else []
        started = started or self.start_together(processes, arguments)
        assert [process.wait() for process in started] == [code] * processes, started[0].errors
        return "".join(process.errors for process in started)

    def ask(self, **request: Any) -> int:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())  # type: ignore[union-attr]

    def close(self) -> None:
        self._process.communicate()


class Forked:
    """One process."""

    def __init__(self, server: Server, pid: int, errors: Path) -> None:
        self._server, self._pid, self._errors = server, pid, errors
        self.code: int | None = None

    def wait(self) -> int:
        if self.code is None:
            self.code = self._server.ask(wait=self._pid)
        return self.code

    def signal_at(self, out: Path, step: int, number: signal.Signals) -> None:
        """Send a signal as soon as that many steps are written down."""
        metrics, process = out / "metrics.jsonl", Path(f"/proc/{self._pid}")
        while not metrics.exists() or metrics.read_text().count("\n") < step:
            assert (process / "cmdline").read_bytes(), self.errors
            time.sleep(0.005)
        children = (process / f"task/{self._pid}/children").read_text().split()
        os.kill(self._pid, number)
        self.wait()
        until = time.monotonic() + 10
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < until, "loader processes outlive the run"
            time.sleep(0.05)

    @property
    def errors(self) -> str:
        return self._errors.read_text()


def _serve() -> None:
    # Standard output is for answers; libraries print while they are imported.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    import mmdet.datasets
    import mmdet.evaluation
    import mmdet.models  # noqa: F401
    import mmseg.datasets
    import mmseg.evaluation
    import mmseg.models  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif not (answer := os.fork()):
            _be(request)
        print(answer, file=answers, flush=True)


def _be(request: dict[str, Any]) -> None:
    code: Any = 1
    try:
        os.dup2(os.open(request["errors"], os.O_WRONLY | os.O_CREAT), 2)
        os.environ.update(request["environment"])
        sys.argv = ["micl-bench", *request["arguments"]]
        main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    import micl_bench.openmmlab  # noqa: F401  (before mmdet, for its operators)
    from micl_bench.cli.app import main

    _serve()
