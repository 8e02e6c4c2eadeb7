"""mmengine runs that evaluate the embedded scenes with a model that answers with spoilt truths."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData

from micl_bench.openmmlab.evidence import Evidence

CLASSES = tuple(f"digit_{digit}" for digit in range(10))
_CONFIGS = Path(__file__).parents[2] / "downstream"


@MODELS.register_module()
class Perturbed(BaseModel):
    """The truth of each image, spoilt in a way that depends on its name alone.

    `junk` detections of the first object's class hit nothing, and have the best scores.
    """

    def __init__(self, share: float = 0.3, junk: int = 0) -> None:
        super().__init__()
        self.share, self.junk = share, junk

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "predict") -> Any:
        for sample in data_samples:
            rng = np.random.default_rng(
                random.Random(sample.img_path.split("/")[-1]).randrange(9**9)
            )
            if "gt_sem_seg" in sample:
                sample.pred_sem_seg = self._map(sample, rng)
            else:
                sample.pred_instances = self._objects(sample, rng)
        return data_samples

    def _map(self, sample: Any, rng: np.random.Generator) -> PixelData:
        truth = sample.gt_sem_seg.data.numpy()
        wrong = rng.integers(0, len(CLASSES), truth.shape)
        spoilt = (rng.random(truth.shape) < self.share) | (truth == 255)
        return PixelData(data=torch.from_numpy(np.where(spoilt, wrong, truth)))

    def _objects(self, sample: Any, rng: np.random.Generator) -> InstanceData:
        truth = sample.gt_instances
        count = 0 if self.share == 1 else len(truth)
        picked = np.repeat(np.arange(count), rng.integers(0, 3, count))
        boxes = np.asarray(truth.bboxes.tensor)[picked] + rng.normal(0, 2, (len(picked), 4))
        masks = truth.masks.to_ndarray()[picked]
        shifted = [np.roll(mask, rng.integers(-3, 4, 2), (0, 1)) for mask in masks]
        changed = rng.random(len(picked)) < self.share
        labels = np.where(changed, rng.integers(0, 10, len(picked)), truth.labels.numpy()[picked])
        found = InstanceData(
            bboxes=torch.from_numpy(boxes).float(),
            scores=torch.from_numpy(rng.random(len(picked))).float(),
            labels=torch.from_numpy(labels),
            masks=torch.from_numpy(np.array(shifted).reshape(-1, *masks.shape[1:])).bool(),
        )
        junk = InstanceData(
            bboxes=torch.tensor([[0.0, 0, 2, 2]] * self.junk).reshape(-1, 4),
            scores=torch.linspace(1, 2, self.junk),
            labels=truth.labels[:1].repeat(self.junk),
            masks=torch.zeros(self.junk, *masks.shape[1:]).bool(),
        )
        return InstanceData.cat([found, junk])


def evaluation(library: str, data: Path, work_dir: Path, **changes: Any) -> tuple[Runner, Evidence]:
    """A runner for the demo config's validation split; `changes` are of dotted keys."""
    name, folder = {
        "mmseg": ("embedded_upernet.py", "embedded-ade20k"),
        "mmdet": ("embedded_mask_rcnn.py", "embedded-coco"),
    }[library]
    demo = Config.fromfile(_CONFIGS / name)
    text = demo.pretty_text.replace(demo.data_root, str(data / folder))
    demo = Config.fromstring(text, ".py")
    config = Config(
        {
            "model": {"type": "Perturbed"},
            "default_scope": library,
            "work_dir": str(work_dir),
            "experiment_name": f"perturbed-{library}-{work_dir.name}",
            "val_dataloader": {**demo.val_dataloader, "batch_size": 3},
            "val_evaluator": demo.val_evaluator,
            "val_cfg": {"type": "ValLoop"},
            "default_hooks": {"checkpoint": None},
        }
    )
    config.merge_from_dict(changes)
    before = DefaultScope._instance_dict.copy()
    try:
        runner = Runner.from_cfg(config)
        assert runner.val_loop.dataloader, "built while the library's scope is the default"
    finally:
        DefaultScope._instance_dict = before
    evidence = Evidence()
    runner.register_hook(evidence)
    return runner, evidence
