"""A made-up store of any number of records, as large and as varied as real ones.

Its numbers mean nothing: they are drawn around a level of each method, for measuring the report.
"""

import itertools
import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from micl_bench.records.result import CheckpointInfo, DataSet, Result, Stage, write_result
from micl_bench.records.statistics import wilson
from micl_bench.runtime.files import digest_json

_METHODS = {
    "MiCL": 80.0,
    "MAE": 76.0,
    "DINO": 77.0,
    "MoCo v3": 75.5,
    "iBOT": 78.0,
    "from scratch": 70.0,
}
_ARCHS = ("vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224")
_SETS = {
    "knn": ("imagenet",),
    "linear": ("imagenet",),
    "finetune": ("imagenet",),
    "robustness": ("imagenet-a", "imagenet-r", "imagenet-sketch"),
    "ade20k": ("ade20k",),
    "coco": ("coco",),
}
_IMAGES = {"imagenet": 50_000, "imagenet-a": 7_500, "imagenet-r": 30_000, "imagenet-sketch": 50_889}
_METRICS = {
    "ade20k": ("mIoU", "mAcc", "aAcc"),
    "coco": ("box_AP", "box_AP50", "box_AP75", "mask_AP", "mask_AP50", "mask_AP75"),
    "knn": ("top1", "top5", "top1_k10", "top1_k20", "top1_k100", "top1_k200"),
    "robustness": ("top1", "clean_top1", "drop"),
}
_SEEDS = (0, 1, 2)
_FIRST = datetime(2026, 1, 1, tzinfo=timezone.utc)
_ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
    "numpy": "2.2.6",
    "pillow": "12.0.0",
    "scikit-learn": "1.7.1",
    "timm": "1.0.20",
    "torch": "2.8.0",
    "torchvision": "0.23.0",
    "onedl-mmcv": "2.3.6",
    "onedl-mmdetection": "3.5.1",
    "onedl-mmengine": "0.10.12",
    "onedl-mmsegmentation": "1.4.2",
    "gpus": "8 x NVIDIA H100 80GB HBM3",
    "driver": "570.86",
}


def write_store(folder: Path, *, records: int) -> None:
    """Write the first so many records of an endless list: methods, networks, seeds, variants, tasks."""
    for result in itertools.islice(made_up_results(), records):
        write_result(result, folder / result.task / result.method.replace(" ", "_"))


def made_up_results() -> Iterator[Result]:
    """Six methods on eight sets, for each network, seed, and variant of the pre-training."""
    rng = random.Random(0)
    count = itertools.count()
    for variant in itertools.count():
        for arch, seed, method in itertools.product(_ARCHS, _SEEDS, _METHODS):
            stage = _stage(method, arch, seed, variant)
            for task, names in _SETS.items():
                for name in names:
                    start = _FIRST + timedelta(minutes=next(count))
                    yield _result(task, name, arch, stage, start, rng)


def _stage(method: str, arch: str, seed: int, variant: int) -> Stage:
    settings = {
        "task": "pretrain",
        "arch": arch,
        "epochs": 100 + 100 * (variant % 8),
        "batch_size": 1024 * 2 ** (variant // 8 % 4),
        "objective": {
            "name": method.lower(),
            "mask_ratio": 0.9 - 0.05 * (variant // 32 % 8),
            "num_views": 2 + variant // 256,
            "kappa": 0.015625,
            "temperature": 0.07,
            "negatives": "global",
        },
        "optim": {"name": "adamw", "base_lr": 1.5e-4, "weight_decay": 0.05, "betas": [0.9, 0.95]},
        "img_size": 224,
        "precision": "bf16",
    }
    return Stage(
        task="pretrain",
        method=method,
        fingerprint=digest_json(settings),
        seed=seed,
        epochs=settings["epochs"],
        data="imagenet",
        data_digest=_digest("imagenet", "train"),
        settings=settings,
    )


def _result(
    task: str, name: str, arch: str, stage: Stage, start: datetime, rng: random.Random
) -> Result:
    data = _data(name, "val", _IMAGES.get(name, 5_000))
    source = f"work/{stage.method}/{arch}/{stage.fingerprint[:8]}/seed{stage.seed}/backbone.pt"
    recipe = (
        _dense_recipe(task, source) if task in ("ade20k", "coco") else _recipe(task, stage.seed)
    )
    level = _METHODS[stage.method] * (0.6 if task in ("ade20k", "coco") else 1.0)
    metrics = {m: min(99.0, rng.gauss(level, 1.0) + i) for i, m in enumerate(_names(task))}
    settings = {
        key: recipe[key] for key in ("task", "pixels", "training", "model") if key in recipe
    }
    settings = json.loads(json.dumps(settings).replace(source, "evaluated"))
    predictions = "predictions.npz"
    return Result(
        task=task,
        protocol=f"{task} of {arch} at 224 px, 100 epochs of batch 1024, head on [CLS], bf16",
        method=stage.method,
        arch=arch,
        metrics=metrics,
        data=data,
        checkpoint=CheckpointInfo(
            source=source,
            format="micl_bench",
            digest=_digest(stage.fingerprint, str(stage.seed)),
            network="width 768, depth 12, 12 heads, patch 16, norm eps 1e-06",
            normalisation="mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
            origin=(stage,),
        ),
        recipe=recipe,
        recipe_digest=digest_json(recipe),
        seed=stage.seed,
        command=f"micl-bench eval {task} --checkpoint {source} --recipe downstream/{task}_vit.py "
        f"--data /data/{name} --out work/results/{task}-{stage.seed} --method '{stage.method}'",
        code_version="0.2.0 (0123456789ab)",
        environment=_ENVIRONMENT,
        start=start.isoformat(timespec="seconds"),
        seconds=round(rng.uniform(60, 90_000), 2),
        device_hours=round(rng.uniform(0.1, 200), 4),
        train=_data("imagenet", "train", 1_281_167)
        if task in ("knn", "linear", "finetune")
        else None,
        settings=settings,
        fingerprint=digest_json(settings),
        intervals={m: list(wilson(v, data.images)) for m, v in metrics.items() if m != "drop"},
        details={"features": {"key": _digest(name, arch), "seconds": rng.random(), "read": True}},
        artifacts={"predictions": predictions},
        digests={"predictions": _digest(predictions, str(start))},
    )


def _names(task: str) -> tuple[str, ...]:
    return _METRICS.get(task, ("top1", "top5"))


def _data(name: str, split: str, images: int) -> DataSet:
    return DataSet(name=name, split=split, images=images, digest=_digest(name, split))


def _digest(*words: str) -> str:
    return digest_json(words)


def _recipe(task: str, seed: int) -> dict[str, Any]:
    """About as long as that of a classification."""
    return {
        "task": task,
        "pixels": {"img_size": 224, "crop_pct": 0.875, "crop_scale": [0.08, 1.0], "flip": True},
        "training": {
            "epochs": 100,
            "batch_size": 1024,
            "augmentation": {"rand_augment": "rand-m9-mstd0.5-inc1", "mixup": 0.8, "cutmix": 1.0},
            "optim": {"name": "adamw", "base_lr": 5e-4, "layer_decay": 0.65, "warmup_epochs": 5.0},
            "label_smoothing": 0.1,
            "drop_path": 0.1,
        },
        "save_every_steps": 500,
        "num_workers": 8,
        "seed": seed,
    }


def _dense_recipe(task: str, source: str) -> dict[str, Any]:
    """As long as the mmengine configs of `downstream/`, 5 to 12 KB, which name their checkpoint."""
    stages = [
        {
            "type": f"Head{number}",
            "in_channels": [768, 768, 768, 768],
            "norm": {"type": "SyncBN", "requires_grad": True},
            "loss": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
            "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.3 + number / 100},
            "anchors": {"scales": [8], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64]},
        }
        for number in range(12)
    ]
    backbone = {"type": "MiCLViT", "checkpoint": source, "img_size": 512, "drop_path": 0.1}
    return {"task": task, "model": {"type": "Model", "backbone": backbone, "stages": stages}}
