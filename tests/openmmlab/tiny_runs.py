"""A task of mmengine that takes a second: a `MiCLViT`, one linear layer, noise with labels.

Real runner, loops, wrappers and hooks; no library on top of mmengine is imported.
"""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from micl_bench.backbone import Arch
from micl_bench.checkpoints import save_checkpoint

WIDTH = 32
ADAMW = {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.05}


def tiny(path: Path, *, depth: int = 2, **options: Any) -> str:
    """A checkpoint of a narrow ViT, written to `path`."""
    arch = Arch(
        name="tiny", img_size=32, patch_size=16, width=WIDTH, depth=depth, num_heads=1, **options
    )
    model = arch.build_any()
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05, generator=generator)
    save_checkpoint(path, model, arch, method="any", provenance={})
    return str(path)


@DATASETS.register_module()
class Noise(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        return {"inputs": torch.randn(3, 32, 32, generator=generator), "labels": index % 2}


@MODELS.register_module()
class Linear(BaseModel):
    """Predicts a label from the mean of the last map."""

    def __init__(self, backbone: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        conv = nn.Conv2d(3, WIDTH, 16, stride=16)
        self.encoder = nn.ModuleDict({"deep": MODELS.build(backbone) if backbone else conv})
        self.head = nn.Linear(WIDTH, 2)
        self.head_dtypes: list[torch.dtype] = []

    def forward(self, inputs: list[Tensor], labels: list[int], mode: str = "loss") -> Any:
        maps = self.encoder["deep"](torch.stack(inputs))
        logits = self.head((maps[-1] if isinstance(maps, tuple) else maps).mean((2, 3)))
        self.head_dtypes.append(logits.dtype)
        if mode == "loss":
            loss = nn.functional.cross_entropy(
                logits.float(), torch.tensor(labels, device=logits.device)
            )
            return {"loss": loss}
        return [BaseDataElement(label=label) for label in logits.argmax(1)]


@METRICS.register_module()
class Count(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return {"count": len(results)}


@HOOKS.register_module()
class Rates(Hook):
    """Each group's learning rate in every step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.rates.append([group["lr"] for group in runner.optim_wrapper.optimizer.param_groups])


def tiny_config(work_dir: Path, checkpoint: str | None, *, steps: int = 1, **keys: Any) -> Config:
    """A whole config; without a checkpoint the model has no `MiCLViT`."""
    loader = {"batch_size": 2, "num_workers": 0, "dataset": {"type": "Noise"}}
    backbone = {"type": "MiCLViT", "checkpoint": checkpoint, "strides": [16], "drop_path": 0.0}
    content = {
        "model": {"type": "Linear", "backbone": backbone if checkpoint else None},
        "work_dir": str(work_dir),
        "experiment_name": f"tiny-{work_dir.name}",
        "train_dataloader": {**loader, "sampler": {"type": "InfiniteSampler", "seed": 0}},
        "val_dataloader": {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        "val_evaluator": {"type": "Count"},
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": steps, "val_interval": steps},
        "val_cfg": {"type": "ValLoop"},
        "optim_wrapper": {"type": "OptimWrapper", "optimizer": ADAMW},
        "default_hooks": {"checkpoint": None},
        "randomness": {"seed": 0},
    }
    return Config({**content, **keys})


def tiny_runner(config: Config) -> Runner:
    """The runner, with mmengine's default scope put back afterwards."""
    before = DefaultScope._instance_dict.copy()
    try:
        return Runner.from_cfg(config)
    finally:
        DefaultScope._instance_dict = before


def hook_of(runner: Runner, kind: type[Hook]) -> Any:
    return next(hook for hook in runner.hooks if isinstance(hook, kind))
