"""Run by torchrun: short runs of mmengine's own runner, with gloo; every process tells what happened.

Arguments: a folder, and a checkpoint.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from openmmlab.tiny_runs import hook_of, tiny_config, tiny_runner

from micl_bench.openmmlab.agreement import digests
from micl_bench.openmmlab.optim import parameter_table
from micl_bench.openmmlab.precision import MiCLPrecision
from micl_bench.runtime.distributed import process_group, rank
from micl_bench.runtime.errors import InputError

QKV = "encoder.deep.vit.blocks.1.attn.qkv.weight"


@HOOKS.register_module()
class Tamper(Hook):
    """Change one weight a little, on some processes."""

    def __init__(self, ranks: list[int], name: str) -> None:
        self.ranks, self.name = ranks, name

    def before_train(self, runner: Runner) -> None:
        if rank() in self.ranks:
            with torch.no_grad():
                runner.model.module.state_dict()[self.name].view(-1)[-1].add_(1e-3)


def cases() -> dict[str, dict[str, Any]]:
    """What each run has besides its hooks."""
    optimizer = {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.05}
    constructor = {"constructor": "MiCLViTConstructor", "paramwise_cfg": {"layer_decay": 0.5}}
    tamper: dict[str, Any] = {"type": "Tamper", "name": QKV}
    return {
        "plain": {
            "optim_wrapper": {"type": "Bf16OptimWrapper", "optimizer": optimizer, **constructor}
        },
        "rank 1 differs": {"custom_hooks": [{**tamper, "ranks": [1]}]},
        "a head differs": {"custom_hooks": [{**tamper, "ranks": [0], "name": "head.bias"}]},
        "both initialise": {"custom_hooks": [{**tamper, "ranks": [0, 1]}]},
    }


def trained(folder: Path, checkpoint: str, keys: dict[str, Any]) -> Runner:
    hooks = [{"type": "MiCLSameWeights"}, {"type": "MiCLPrecision"}, *keys.pop("custom_hooks", [])]
    config = tiny_config(
        folder,
        checkpoint,
        steps=2,
        launcher="pytorch",
        # mmengine's default names a device, which a model on CPU must not have.
        model_wrapper_cfg={"type": "MMDistributedDataParallel", "device_ids": None},
        custom_hooks=hooks,
        **keys,
    )
    runner = tiny_runner(config)
    runner.train()
    return runner


def told(runner: Runner) -> dict[str, Any]:
    """The rates that each parameter had, the table that is promised, precision and weights."""
    names = {parameter: name for name, parameter in runner.model.module.named_parameters()}
    groups = runner.optim_wrapper.optimizer.param_groups
    precision = hook_of(runner, MiCLPrecision)
    return {
        "rates": {names[p]: [g["lr"], g["weight_decay"]] for g in groups for p in g["params"]},
        "table": parameter_table(runner.model, layer_decay=0.5, weight_decay=0.05),
        "precision": [precision.seen, precision.evaluated],
        "weights": digests(runner.model.module),
    }


if __name__ == "__main__":
    folder, checkpoint = Path(sys.argv[1]), sys.argv[2]
    found: dict[str, Any] = {}
    # mmengine's own start of processes asks for GPUs even where gloo is named.
    with process_group():
        for name, keys in cases().items():
            try:
                found[name] = told(trained(folder / name.replace(" ", "-"), checkpoint, keys))
            except InputError as error:
                found[name] = str(error)
        (folder / f"{rank()}.json").write_text(json.dumps(found))
