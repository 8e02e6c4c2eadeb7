"""What mmengine would leave in a process: text on the terminal, global instances, torch's switches."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, NoReturn, TextIO

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.visualization import Visualizer

from micl_bench.runtime.errors import InputError


@contextmanager
def quiet(log: TextIO) -> Iterator[None]:
    """Send all that the libraries print, log and warn to a file."""
    with redirect_stdout(log), redirect_stderr(log):
        yield


@contextmanager
def no_trace() -> Iterator[None]:
    """Put back what mmengine changes for the whole process: its instances and torch's switches.

    Meanwhile its own reader of weights refuses: it would run code from a file.
    """
    with ExitStack() as stack:
        stack.callback(
            setattr, CheckpointLoader, "load_checkpoint", CheckpointLoader.load_checkpoint
        )
        CheckpointLoader.load_checkpoint = staticmethod(_refuse_to_unpickle)
        for kind in (DefaultScope, MMLogger, MessageHub, Visualizer):
            stack.callback(setattr, kind, "_instance_dict", kind._instance_dict.copy())
        cudnn = torch.backends.cudnn
        stack.callback(setattr, cudnn, "deterministic", cudnn.deterministic)
        stack.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
        stack.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        # What mmengine sets for several processes.
        stack.callback(_restore, os.environ, dict(os.environ))
        stack.callback(_close_logs, set(MMLogger._instance_dict))
        yield


def _refuse_to_unpickle(filename: Any, *_: Any, **__: Any) -> NoReturn:
    raise InputError(
        f"a part of the config asks mmengine to load {filename}, which would unpickle it; remove that "
        "and give the file as the checkpoint"
    )


def _close_logs(kept: set[str]) -> None:
    """Close the log files of the loggers that the run made."""
    for name in MMLogger._instance_dict.keys() - kept:
        for handler in MMLogger._instance_dict[name].handlers:
            handler.close()


def _restore(environment: Any, before: dict[str, str]) -> None:
    environment.clear()
    environment.update(before)
