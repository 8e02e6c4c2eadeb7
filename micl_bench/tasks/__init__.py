"""One file or folder per downstream task: data set and protocol in, result records out.

A task is one file with `TASK`, its declaration, and `run(request) -> list[Result]`; heavy modules are
imported inside `run`. A task that is a folder has its declaration in `__init__.py`, and `run` in
`run.py`. Nothing here imports torch until a task runs.
"""

import importlib
from collections.abc import Callable
from types import ModuleType

from micl_bench.engine.pretraining import TASK as PRETRAINING
from micl_bench.records.declared import Metric, Task
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.tasks._request import Request

__path__ = plugins.SearchPath("tasks", __path__)

__all__ = [
    "PRETRAINING",
    "TOP_1",
    "TOP_5",
    "Metric",
    "Request",
    "Task",
    "declared",
    "declared_tasks",
    "running",
]

# Metrics of all tasks of classification.
TOP_1 = Metric(name="top1", title="top-1", unit="%", better="higher", quoted=True)
TOP_5 = Metric(name="top5", title="top-5", unit="%", better="higher")


def declared(name: str) -> Task:
    """The declaration of a task, or of pre-training, read without importing torch.

    Raises:
        InputError: there is no such task (the message lists those there are), or it is declared wrongly.
    """
    if name == PRETRAINING.name:
        return PRETRAINING
    task: Task = _module(name).TASK
    if task.name != name:
        raise InputError(f"TASK of the task {name} must have that name; its name is {task.name!r}")
    return task


def declared_tasks() -> dict[str, Task]:
    """The declarations of pre-training and of every task by name, in the order of a report.

    Plug-ins that cannot be used are left out, with a warning.
    """
    tasks = [PRETRAINING, *plugins.every("tasks", declared).values()]
    return {task.name: task for task in sorted(tasks, key=lambda task: (task.place, task.name))}


def running(name: str) -> ModuleType:
    """The module with a task's `run`, and its `RECIPE` where it has one; imports what the task needs.

    Raises:
        InputError: as `declared`.
    """
    module = _module(name)
    return importlib.import_module(f"{module.__name__}.run") if _is_folder(module) else module


def _module(name: str) -> ModuleType:
    """A task's declaration, in a file with a function `run`; a folder's `run` may need torch."""
    module = plugins.find("tasks", name, TASK=Task)
    return module if _is_folder(module) else plugins.find("tasks", name, run=Callable)


def _is_folder(module: ModuleType) -> bool:
    return hasattr(module, "__path__")
