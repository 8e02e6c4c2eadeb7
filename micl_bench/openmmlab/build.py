"""From a resolved config to mmengine's runner, every part of it built before anything is trained."""

import itertools
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from micl_bench.openmmlab.batch import Batch
from micl_bench.openmmlab.configs import dicts, evaluates_each_image
from micl_bench.openmmlab.data_sets import by_name, check_same_classes, class_names
from micl_bench.openmmlab.loops import ImageLoop, build_loop
from micl_bench.openmmlab.resume import Keeper
from micl_bench.runs.seeded import seeded
from micl_bench.runtime.distributed import rank, world_size
from micl_bench.runtime.errors import InputError, Stopped
from micl_bench.runtime.randomness import Stream

_GIST = 300
_runs = itertools.count()


class DenseRunner(Runner):
    """A runner that goes on from a `Keeper`'s state and counts steps as a `Batch` does."""

    keeper: Keeper
    passes: int

    def build_train_loop(self, loop: Any) -> BaseLoop:
        """One of ours for either of mmengine's."""
        if isinstance(loop, BaseLoop):
            return loop
        built_loop = build_loop(self, loop, passes=self.passes, after_step=self.keeper.after_step)
        built_loop._iter = self.keeper.step
        return built_loop

    def build_val_loop(self, loop: Any) -> BaseLoop:
        """Ours for mmengine's own; another one is its author's."""
        if isinstance(loop, BaseLoop) or not evaluates_each_image(loop):
            return super().build_val_loop(loop)
        options = {name: value for name, value in loop.items() if name not in ("type", "_scope_")}
        return ImageLoop(
            self, dataloader=self._val_dataloader, evaluator=self._val_evaluator, **options
        )

    def load_or_resume(self) -> None:
        """Go on, where there is a state; mmengine's own would unpickle a file."""
        self.keeper.restore(self)


@MODEL_WRAPPERS.register_module()
class MiCLDistributed(MMDistributedDataParallel):
    """mmengine's wrapper for several processes, on a CPU as well."""

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **options: Any):
        on_cpu = next(module.parameters()).device.type == "cpu"
        super().__init__(module, device_ids=None if on_cpu else device_ids, **options)


def built(config: Config, work_dir: Path, keeper: Keeper, batch: Batch) -> DenseRunner:
    """A runner with model, data, optimiser and evaluator."""
    config = config.copy()
    config.work_dir = str(work_dir)
    # mmengine keys its global state by this name, and its own has seconds as the finest part.
    config.experiment_name = f"micl-bench-{os.getpid()}-{next(_runs)}"
    hook = checkpoint_hook(config)
    config.default_hooks = {**(config.get("default_hooks") or {}), "checkpoint": None}
    if world_size() > 1:
        config.launcher = "pytorch"
        config.model_wrapper_cfg = _wrapper(config)
    with by_name(config):
        runner = DenseRunner.from_cfg(config)
        runner.keeper, runner.passes = keeper, batch.passes_an_iteration
        # The total is what the config says, so there is nothing to scale by.
        runner.auto_scale_lr = None
        if runner.val_loop is None:
            raise InputError("it has no val_dataloader, val_evaluator and val_cfg to evaluate with")
        trained_on: Any = runner.train_loop.dataloader.dataset
    _try_first(trained_on.dataset)
    check_same_classes(
        class_names(trained_on, "the training set"),
        "the training set",
        class_names(runner.val_loop.dataloader.dataset, "the validation set"),
        "the validation set",
    )
    keeper.at_end = hook is not None
    keeper.every = _interval(hook or {}, len(runner.train_loop.dataloader))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    if world_size() > 1:
        for metric in runner.val_loop.evaluator.metrics:
            metric.collect_dir = str(work_dir / ".collected")
    return runner


def checkpoint_hook(config: Config) -> dict[str, Any] | None:
    """How a config asks for checkpoints; None where it wants none. Untold, mmengine keeps the last."""
    return (config.get("default_hooks") or {}).get("checkpoint", {})


def check_norms(config: Config) -> None:
    """Refuse batch norm over processes where torch has none.

    Raises:
        InputError: `SyncBN` on several processes without CUDA.
    """
    if world_size() > 1 and not torch.cuda.is_available() and _norms(config) & {"SyncBN"}:
        raise InputError(
            f"the config has SyncBN, which torch computes on GPUs alone, and {world_size()} processes "
            "run on CPUs; start one process, or set type='BN' in its norm_cfg, which normalises over "
            "each process's own images"
        )


def normalised_together(config: Config, batch: Batch) -> int:
    """The fewest images that a batch norm of the model takes its statistics from; 0 without any."""
    norms = _norms(config)
    if not norms:
        return 0
    return batch.size * (1 if norms - {"SyncBN"} else batch.processes)


@contextmanager
def blaming(name: str, doing: str) -> Iterator[None]:
    """Raise whatever a config's parts refuse as an InputError: a config is a program of the user's."""
    try:
        yield
    except (InputError, Stopped):
        raise
    except (Exception, SystemExit) as error:
        gist = _gist(error)
        lost = world_size() > 1 and any(
            word in gist.lower()
            for word in ("connection closed", "connection reset", "broken pipe")
        )
        if lost:
            raise InputError("another process ended early; its own line says why") from error
        if isinstance(error, OSError) and "DataLoader worker" not in str(error):
            raise
        raise InputError(f"{name} {doing}: {gist}") from error


@contextmanager
def nothing_left_of_a_failure(folder: Path, keeper: Keeper) -> Iterator[None]:
    """Remove what a run wrote that failed in its first step or before."""
    before = set(folder.iterdir()) if folder.exists() else set()
    try:
        yield
    except Exception:
        if rank() == 0 and keeper.step == 0 and not keeper.run.states.exist() and folder.exists():
            for path in set(folder.iterdir()) - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            # Another process of this run may have made it before this one looked.
            if not before:
                folder.rmdir()
        raise


def _try_first(dataset: Any) -> None:
    """Read one image through its pipeline: what is wrong there is not found after days of training."""
    if len(dataset) == 0:
        raise InputError(f"its {type(dataset).__name__} finds no image with a truth beside it")
    with seeded(0, 0, 0, stream=Stream.AUGMENT):
        dataset[0]


def _wrapper(config: Config) -> dict[str, Any]:
    # Buffers are brought to all processes before they are used, in evaluation.
    ours = {
        "type": "MiCLDistributed",
        "broadcast_buffers": False,
        "find_unused_parameters": config.get("find_unused_parameters", False),
    }
    own = dict(config.get("model_wrapper_cfg") or {})
    if own.get("type") == "MMDistributedDataParallel":
        del own["type"]
    return {**ours, **own}


def _interval(hook: dict[str, Any], length: int) -> int:
    """Iterations between saves that a config's `CheckpointHook` asks for.

    Args:
        length: iterations of an epoch.
    """
    if hook.get("save_best"):
        raise InputError(
            "default_hooks.checkpoint.save_best would choose a model by the images it is measured on; "
            "--set default_hooks.checkpoint.save_best=None"
        )
    every = hook.get("interval", -1)
    if every <= 0:
        return 0
    return every * length if hook.get("by_epoch", True) else every


def _norms(config: Config) -> set[str]:
    """Kinds of batch norm in the model's config, `BN` or `SyncBN`."""
    kinds = {str(node.get("type")) for node in dicts(config.model)}
    return {"SyncBN" if "Sync" in kind else "BN" for kind in kinds & _BATCH_NORMS}


_BATCH_NORMS = {"BN", "BN1d", "BN2d", "SyncBN", "MMSyncBN", "BatchNorm2d", "SyncBatchNorm"}


# What Python calls a fault of a part, and what that says of the config.
_SAYS = {
    KeyError: "a key is missing: ",
    IndexError: "a place is beyond the end: ",
    TypeError: "a value is of another kind than is needed: ",
    AttributeError: "a value is of another kind than is needed: ",
    ValueError: "a value is not allowed: ",
    AssertionError: "a condition is not met: ",
}


def _gist(error: BaseException) -> str:
    """What is wrong, on one line, and where it was noticed; of a loader's process its last line."""
    lines = str(error).strip().splitlines()
    if lines and "DataLoader worker" in lines[0]:
        return lines[-1][:_GIST]
    text = " ".join(" ".join(lines).split())
    says = next((says for kind, says in _SAYS.items() if isinstance(error, kind)), "")
    if not says:
        return f"{type(error).__name__}: {text}"[:_GIST]
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    place = f"(in {frame.f_globals.get('__name__', '?')}, line {line})"
    return f"{says}{text[: _GIST - len(place) - len(says)]} {place}"
