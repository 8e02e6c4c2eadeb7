"""A results folder as a demo leaves it: every task, three methods, artefacts made from digits."""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from micl_bench.records.declared import About, Metric, Number, Task
from micl_bench.records.result import DataSet, Record, Result, write_result
from micl_bench.records.statistics import wilson
from micl_bench.records.weights import CheckpointInfo
from micl_bench.runtime.files import digest_json
from micl_bench.tasks import declared, declared_tasks

CLASSES = [f"digit {digit}" for digit in range(10)]
SCORES = {
    "knn": {"MiCL": {"top1": 78.4, "top5": 96.1}, "random weights": {"top1": 41.2, "top5": 82.0}},
    "linear": {"MiCL": {"top1": 84.9}, "random weights": {"top1": 55.3}},
    "finetune": {
        "MiCL": {"top1": 93.1},
        "random weights": {"top1": 88.6},
        "from scratch": {"top1": 92.4},
    },
}
SHIFTED = {
    "A": {"MiCL": (38.2, 93.1), "random weights": (29.5, 88.6), "from scratch": (41.7, 92.4)},
    "R": {"MiCL": (61.0, 93.4), "random weights": (49.3, 88.1), "from scratch": (58.8, 92.9)},
    "Sketch": {"MiCL": (52.5, 93.1), "random weights": (33.3, 88.6), "from scratch": (40.1, 92.4)},
}


def result(**changes: Any) -> Result:
    """A k-NN record of MiCL, but for `changes`; `data` and `checkpoint` may be given in part.

    Its fingerprint is that of its settings, its accuracies have Wilson's intervals. `metrics` are plain
    values, `intervals` and `undefined` are theirs.
    """
    data = {"name": "embedded", "split": "test", "images": 900, "digest": "d" * 64}
    checkpoint = {"source": "runs/micl/last.pt", "format": "micl", "digest": "c0ffee" * 10}
    values: dict[str, Any] = {
        "task": "knn",
        "protocol": "k-NN, k = 20, cosine, temperature 0.07, 64 px",
        "method": "MiCL",
        "arch": "vit_tiny_patch8",
        "metrics": {"top1": 80.0},
        "recipe": {"k": 20},
        "recipe_digest": "abc123" * 10,
        "seed": 0,
        "command": "micl-bench eval knn --checkpoint runs/micl/last.pt --out results",
        "code_version": "0.1.0+g1234abc",
        "environment": {"python": "3.11.9", "torch": "2.8.0", "device": "cpu", "cores": "2"},
        "start": "2025-05-01T10:00:00+00:00",
        "seconds": 12.5,
        "device_hours": 0.003,
        "settings": {"precision": "float32"},
        "artifacts": {},
        **changes,
        "data": DataSet(**{**data, **changes.get("data", {})}),
        "checkpoint": CheckpointInfo(**{**checkpoint, **changes.get("checkpoint", {})}),
    }
    values.setdefault("fingerprint", digest_json(values["settings"]))
    task, metrics = values["task"], values["metrics"]
    accuracies = {
        metric: wilson(value, values["data"].images)
        for metric, value in metrics.items()
        if metric in ("top1", "top5")
    }
    intervals = values.pop("intervals", accuracies)
    values["metrics"] = numbers(task, metrics, intervals, values.pop("undefined", {}))
    values.setdefault("about", about(task))
    return Result(**values)


def about(task: str) -> About:
    """As its declaration has it, or as that of a stranger's task."""
    return declared(task).about if task in declared_tasks() else About(title=task)


def numbers(
    task: str,
    values: dict[str, float],
    intervals: dict[str, Sequence[float]] | None = None,
    undefined: dict[str, str] | None = None,
) -> dict[str, Number]:
    """Values as a record of a task holds them; a metric that it does not declare is a plain number."""
    found = {}
    for name, value in values.items():
        known = declared_tasks().get(task, Task(name=task, title=task, metrics=()))
        extra = Metric(name=re.sub(r"[{}]", "", name), title=name.replace("_", " "))
        task_of = dataclasses.replace(known, metrics=(*known.metrics, extra))
        found[name] = task_of.number(
            name,
            value,
            interval=(intervals or {}).get(name, ()),
            undefined=(undefined or {}).get(name, "these images do not define it"),
        )
    return found


def changed(
    made: Result,
    *,
    metrics: dict[str, float],
    intervals: dict[str, Sequence[float]] | None = None,
    undefined: dict[str, str] | None = None,
    **changes: Any,
) -> Result:
    """The same record but for its numbers, whose intervals stay where none are given, and `changes`."""
    kept = {name: one.interval for name, one in made.metrics.items() if one.interval}
    found = numbers(made.task, metrics, kept if intervals is None else intervals, undefined)
    return dataclasses.replace(made, metrics=found, **changes)


def recorded(results: Iterable[Result], folder: Path = Path("none")) -> list[Record]:
    """The same as if they were read from a folder."""
    return [Record.of(one, folder / f"{one.id}.json") for one in results]


def write_demo(folder: Path) -> list[Result]:
    """Write all records and artefacts of a demo; returns the records."""
    results = [_pretrain(folder / "pretrain"), *_accuracies(), *_shifted()]
    results += [_segmentation(folder / "ade20k", *pair) for pair in (("MiCL", 0.05), _RANDOM)]
    results += [_detection(folder / "coco", *pair) for pair in (("MiCL", 0.05), _RANDOM)]
    for index, made in enumerate(results):
        minute, hour = index % 60, 10 + index // 60
        dated = dataclasses.replace(made, start=f"2025-05-01T{hour}:{minute:02d}:00+00:00")
        place = made.task if made.task in ("pretrain", "ade20k", "coco") else "eval"
        write_result(dated, folder / place)
        results[index] = dated
    return results


_RANDOM = ("random weights", 0.35)


def _weights(method: str) -> dict[str, str]:
    digest = {"MiCL": "c0ffee" * 10, "random weights": "5eed00" * 10}.get(method, "ab12cd" * 10)
    return {"source": f"{method}.pt", "digest": digest}


def _accuracies() -> list[Result]:
    return [
        result(
            task=task,
            protocol=f"{task} at 64 px on 1,800 training images",
            method=method,
            metrics=metrics,
            checkpoint=_weights(method),
        )
        for task, methods in SCORES.items()
        for method, metrics in methods.items()
    ]


def _shifted() -> list[Result]:
    return [
        result(
            task="robustness",
            protocol="the fine-tuned model, not adapted, 64 px",
            method=method,
            metrics={"top1": top1, "clean_top1": clean, "drop": clean - top1},
            intervals={
                "top1": list(wilson(top1, 600)),
                "clean_top1": list(wilson(clean, 900)),
                "drop": [clean - top1 - 4.5, clean - top1 + 4.5],
            },
            data={"name": f"embedded-{name}", "images": 600, "stands_for": f"ImageNet-{name}"},
            checkpoint=_weights(method),
        )
        for name, methods in SHIFTED.items()
        for method, (top1, clean) in methods.items()
    ]


def _pretrain(folder: Path) -> Result:
    folder.mkdir(parents=True)
    rng, digits = np.random.default_rng(0), _digits(64)
    rows = [{"step": 0, "epoch": 0, "knn_top1": 41.2}]
    for step in range(1, 601):
        loss = 1.2 + 3.4 * np.exp(-step / 130) + rng.normal(0, 0.08)
        rows.append({"step": step, "epoch": step // 60, "loss": loss, "lr": 1e-3})
        if step % 60 == 0:
            score = 78.4 - 37.2 * np.exp(-step / 180)
            rows.append({"step": step, "epoch": step // 60, "knn_top1": score})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keep = np.stack([rng.permutation(64)[:60].reshape(4, 15) for _ in range(8)])
    np.savez(folder / "views.npz", images_NHWC=digits[:8], keep_NVK=keep, patch_size=8)
    return result(
        task="pretrain",
        protocol="10 epochs of 1,800 images, 4 views, 64 px",
        metrics={"loss": 1.21, "images_per_second": 2384.2, "knn_top1": 78.4},
        artifacts={"metrics": "metrics.jsonl", "views": "views.npz"},
        seconds=412.0,
    )


def _digits(size: int) -> NDArray[np.uint8]:
    """Colour images of digits: bright strokes over a dark gradient."""
    scale = np.kron(load_digits().images[:40] / 16, np.ones((size // 8, size // 8)))[..., None]
    gradient = np.linspace(20, 110, size)[None, :, None, None] * np.array([0.5, 0.9, 1.0])
    ink = np.random.default_rng(1).uniform(150, 255, (40, 1, 1, 3))
    return np.asarray(scale * ink + (1 - scale) * gradient, dtype=np.uint8)


def _scenes() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
    """Five scenes of four digits each: images, class maps (0 is ground) and labels."""
    digits, labels = _digits(64)[:20], load_digits().target[:20].reshape(5, 4)
    quads = digits.reshape(5, 2, 2, 64, 64, 3).transpose(0, 1, 3, 2, 4, 5).reshape(5, 128, 128, 3)
    ink = np.kron(load_digits().images[:20] > 6, np.ones((8, 8)))
    maps = ink * (labels.reshape(20, 1, 1) + 1)
    maps = maps.reshape(5, 2, 2, 64, 64).transpose(0, 1, 3, 2, 4).reshape(5, 128, 128)
    return quads, maps.astype(np.uint8), labels


def _segmentation(folder: Path, method: str, noise: float) -> Result:
    folder.mkdir(parents=True, exist_ok=True)
    images, truth, _ = _scenes()
    rng = np.random.default_rng(3)
    blocks = np.kron(rng.random((5, 32, 32)) < noise, np.ones((4, 4))).astype(bool)
    wrong = np.kron(rng.integers(0, 11, (5, 32, 32)), np.ones((4, 4)))
    predicted = np.where(blocks, wrong, truth).astype(np.uint8)
    truth = truth.copy()
    truth[:, :6] = 255
    name = f"predictions-{method.split()[0]}.npz"
    arrays = {"images_NHWC": images, "truth_NHW": truth, "predicted_NHW": predicted}
    np.savez(folder / name, classes=np.array(["ground", *CLASSES]), **arrays)
    return result(
        task="ade20k",
        protocol="UperNet, 300 steps, 128 px, single scale",
        method=method,
        metrics={"mIoU": 90 - 100 * noise, "mAcc": 92 - 90 * noise, "aAcc": 97 - 70 * noise},
        data={"name": "embedded-ADE20K", "images": 40, "stands_for": "ADE20K"},
        checkpoint=_weights(method),
        artifacts={"segmentation": name},
    )


def _detection(folder: Path, method: str, noise: float) -> Result:
    folder.mkdir(parents=True, exist_ok=True)
    images, maps, labels = _scenes()
    rng = np.random.default_rng(4)
    corners = np.array([[0, 0], [64, 0], [0, 64], [64, 64]])
    boxes = np.tile(corners, 2) + np.array([10.0, 2.0, 56.0, 62.0])
    masks = np.zeros((5, 4, 128, 128), dtype=bool)
    for n in range(5):
        for k, (left, top) in enumerate(corners):
            place = (slice(top, top + 64), slice(left, left + 64))
            masks[n, k][place] = maps[n][place] > 0
    found = rng.random(20) > noise / 2
    jitter = rng.normal(0, 14 * noise, (20, 4))
    guessed = np.where(rng.random(20) < noise, rng.integers(0, 10, 20), labels.reshape(20))
    name = f"predictions-{method.split()[0]}.npz"
    np.savez(
        folder / name,
        images_NHWC=images,
        classes=np.array(CLASSES),
        image_D=np.repeat(np.arange(5), 4)[found],
        box_D4=(np.tile(boxes, (5, 1)) + jitter)[found],
        label_D=guessed[found],
        score_D=(rng.uniform(0.45, 0.99, 20) - noise / 2)[found],
        mask_DHW=np.roll(masks.reshape(20, 128, 128), int(10 * noise), axis=2)[found],
        truth_image_T=np.repeat(np.arange(5), 4),
        truth_box_T4=np.tile(boxes, (5, 1)),
        truth_label_T=labels.reshape(20),
        truth_mask_THW=masks.reshape(20, 128, 128),
    )
    scores = {"box_AP": 70.2, "box_AP50": 91.0, "mask_AP": 64.0, "mask_AP50": 88.8}
    return result(
        task="coco",
        protocol="Mask R-CNN, 300 steps, 128 px",
        method=method,
        metrics={metric: score * (1 - noise) for metric, score in scores.items()},
        data={"name": "embedded-COCO", "images": 40, "stands_for": "COCO"},
        checkpoint=_weights(method),
        artifacts={"detection": name},
    )
