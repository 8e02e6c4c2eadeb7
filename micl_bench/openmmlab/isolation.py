"""Keeping OpenMMLab's traces out of a process: text on the terminal, instances, torch's switches."""

import os
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, NoReturn, TextIO

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.visualization import Visualizer

from micl_bench.runtime.distributed import world_size
from micl_bench.runtime.errors import InputError, Stopped

_LONGEST = 300
_OTHER_KIND = "a value is of another kind than is needed: "
# Words on a config, by the kind of error that its parts raise.
_SAYS = {
    KeyError: "a key is missing: ",
    IndexError: "a place is beyond the end: ",
    TypeError: _OTHER_KIND,
    AttributeError: _OTHER_KIND,
    ValueError: "a value is not allowed: ",
    AssertionError: "a condition is not met: ",
}
_LOST = ("connection closed", "connection reset", "broken pipe")


@contextmanager
def quiet(log: TextIO) -> Iterator[None]:
    """Send all that the libraries print, log and warn to a file."""
    with redirect_stdout(log), redirect_stderr(log):
        yield


@contextmanager
def blaming(name: str, doing: str) -> Iterator[None]:
    """Raise whatever a config's parts refuse as an InputError: a config is a program of the user's."""
    try:
        yield
    except (InputError, Stopped):
        raise
    except (Exception, SystemExit) as error:
        gist = _gist(error)
        if world_size() > 1 and any(word in gist.lower() for word in _LOST):
            raise InputError("another process ended early; its own line says why") from error
        if isinstance(error, OSError) and "DataLoader worker" not in str(error):
            raise
        raise InputError(f"{name} {doing}: {gist}") from error


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
        # mmengine sets variables for several processes.
        stack.callback(os.environ.update, dict(os.environ))
        stack.callback(os.environ.clear)
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


def _gist(error: BaseException) -> str:
    """The fault and its place on one line; for a loader's process its last line."""
    lines = str(error).strip().splitlines()
    if lines and "DataLoader worker" in lines[0]:
        return lines[-1][:_LONGEST]
    text = " ".join(" ".join(lines).split())
    says = next((says for kind, says in _SAYS.items() if isinstance(error, kind)), "")
    if not says:
        return f"{type(error).__name__}: {text}"[:_LONGEST]
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    place = f"(in {frame.f_globals.get('__name__', '?')}, line {line})"
    return f"{says}{text[: _LONGEST - len(place) - len(says)]} {place}"
