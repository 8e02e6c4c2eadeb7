"""Building mmengine's runner from a resolved config, every part before anything is trained."""

import itertools
import os
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from micl_bench.openmmlab.configs import dicts, evaluates_each_image
from micl_bench.openmmlab.data_sets import by_name, check_same_classes, class_names
from micl_bench.openmmlab.loops import ImageLoop, build_loop
from micl_bench.openmmlab.resume import Keeper
from micl_bench.openmmlab.sampling import Batch
from micl_bench.runs.seeded import seeded
from micl_bench.runtime.distributed import world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream

_runs = itertools.count()
_BATCH_NORMS = {"BN", "BN1d", "BN2d", "SyncBN", "MMSyncBN", "BatchNorm2d", "SyncBatchNorm"}


class DenseRunner(Runner):
    """A runner that goes on from a `Keeper`'s state and counts steps as a `Batch` does."""

    keeper: Keeper
    passes: int

    def build_train_loop(self, loop: Any) -> BaseLoop:
        """Build the loop of ours that stands for either of mmengine's."""
        if isinstance(loop, BaseLoop):
            return loop
        built_loop = build_loop(self, loop, passes=self.passes, after_step=self.keeper.after_step)
        built_loop._iter = self.keeper.step
        return built_loop

    def build_val_loop(self, loop: Any) -> BaseLoop:
        """Build our loop for mmengine's own; another one stays its author's."""
        if isinstance(loop, BaseLoop) or not evaluates_each_image(loop):
            return super().build_val_loop(loop)
        options = {name: value for name, value in loop.items() if name not in ("type", "_scope_")}
        return ImageLoop(self, self._val_dataloader, self._val_evaluator, **options)

    def load_or_resume(self) -> None:
        """Go on where there is a state; mmengine's own method would unpickle a file."""
        self.keeper.restore(self)


@MODEL_WRAPPERS.register_module()
class MiCLDistributed(MMDistributedDataParallel):
    """mmengine's wrapper for several processes, on a CPU as well."""

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **options: Any):
        on_cpu = next(module.parameters()).device.type == "cpu"
        super().__init__(module, device_ids=None if on_cpu else device_ids, **options)


def built(config: Config, keeper: Keeper, batch: Batch) -> DenseRunner:
    """Build a runner with model, data, optimiser and evaluator.

    Raises:
        InputError: the config has no evaluation, its data are empty, or it asks for checkpoints in a way
            that is not allowed.
    """
    config = config.copy()
    config.work_dir = str(keeper.folder)
    # mmengine keys its global state by this name, and its own has seconds as the finest part.
    config.experiment_name = f"micl-bench-{os.getpid()}-{next(_runs)}"
    hook = checkpoint_hook(config)
    config.default_hooks = {**(config.get("default_hooks") or {}), "checkpoint": None}
    if world_size() > 1:
        config.launcher = "pytorch"
        config.model_wrapper_cfg = _wrapper(config)
    with by_name(config):
        runner = DenseRunner.from_cfg(config)
        runner.keeper, runner.passes = keeper, batch.passes if batch.counted else 1
        # The total is what the config says, so there is nothing to scale by.
        runner.auto_scale_lr = None
        if runner.val_loop is None:
            raise InputError("it has no val_dataloader, val_evaluator and val_cfg to evaluate with")
        trained_on: Any = runner.train_loop.dataloader.dataset
    if not len(trained_on):
        kind = type(trained_on.dataset).__name__
        raise InputError(f"its {kind} finds no image with a truth beside it")
    # An image that cannot be read is found now, not after days of training.
    with seeded(0, 0, 0, stream=Stream.AUGMENT):
        trained_on.dataset[0]
    # For data sets of any kind; those of a known kind were checked before.
    names = ("the training set", "the validation set")
    ours, theirs = map(class_names, (trained_on, runner.val_loop.dataloader.dataset), names)
    check_same_classes(ours, names[0], theirs, names[1])
    keeper.at_end = hook is not None
    keeper.every = _interval(hook or {}, len(runner.train_loop.dataloader))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    if world_size() > 1:
        for metric in runner.val_loop.evaluator.metrics:
            metric.collect_dir = str(keeper.folder / ".collected")
    return runner


def checkpoint_hook(config: Config) -> dict[str, Any] | None:
    """The config's settings of checkpoints, by default of the last one; None where it wants none."""
    return (config.get("default_hooks") or {}).get("checkpoint", {})


def normalised_together(config: Config, batch: Batch) -> int:
    """The smallest number of images from which a batch norm of the model takes its statistics; 0 where
    the model has none.

    Raises:
        InputError: `SyncBN` on several processes without CUDA.
    """
    kinds = {str(node.get("type")) for node in dicts(config.model)} & _BATCH_NORMS
    synchronised = {kind for kind in kinds if "Sync" in kind}
    if synchronised and world_size() > 1 and not torch.cuda.is_available():
        raise InputError(
            f"the config has SyncBN, which torch computes on GPUs alone, and {world_size()} processes "
            "run on CPUs; start one process, or set type='BN' in its norm_cfg, which normalises over "
            "each process's own images"
        )
    if not kinds:
        return 0
    return batch.size * (batch.processes if kinds == synchronised else 1)


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


def _interval(hook: dict[str, Any], epoch: int) -> int:
    """Iterations between saves that a `CheckpointHook` asks for; `epoch` are those of an epoch."""
    if hook.get("save_best"):
        raise InputError(
            "default_hooks.checkpoint.save_best would choose a model by the images it is measured on; "
            "--set default_hooks.checkpoint.save_best=None"
        )
    every = hook.get("interval", -1)
    if every <= 0:
        return 0
    return every * epoch if hook.get("by_epoch", True) else every
