"""`MiCLCocoMetric`: mmdetection's numbers with either backend, pycocotools' to the last digits."""

import copy
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_scenes import scenes
from mmdet.evaluation.metrics import CocoMetric
from mmdet.registry import METRICS
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from micl_bench.openmmlab.coco_metric import MiCLCocoMetric, evaluator
from micl_bench.runtime.errors import InputError

needs_faster = pytest.mark.skipif(
    importlib.util.find_spec("faster_coco_eval") is None,
    reason="faster-coco-eval is not installed",
)


@pytest.fixture(scope="module")
def annotations(embedded: Path) -> Path:
    return embedded / "embedded-coco" / "annotations" / "instances_val2017.json"


def seen(annotations: Path) -> list[dict[str, Any]]:
    """What a detector might say of the scenes: true objects moved a little, some as another class."""
    content, random = json.loads(annotations.read_text()), np.random.default_rng(0)
    samples = []
    for image in content["images"]:
        height, width = image["height"], image["width"]
        objects = [e for e in content["annotations"] if e["image_id"] == image["id"]]
        boxes, labels, masks = [], [], []
        for entry in [*objects, *objects]:
            x, y, w, h = np.array(entry["bbox"]) + random.normal(0, 1.5, 4)
            boxes.append([x, y, x + max(w, 1), y + max(h, 1)])
            wrong = random.uniform() < 0.2
            labels.append(int(random.integers(10)) if wrong else entry["category_id"] - 1)
            covered = np.zeros((height, width), dtype=bool)
            covered[int(max(y, 0)) : int(y + h), int(max(x, 0)) : int(x + w)] = True
            masks.append(covered)
        found = {
            "bboxes": torch.tensor(np.array(boxes, dtype=np.float32)),
            "labels": torch.tensor(labels),
            # Two digits: many detections share a score.
            "scores": torch.tensor(random.uniform(0.1, 1, len(boxes)).round(2)),
            "masks": torch.tensor(np.array(masks)),
        }
        samples.append(
            {"img_id": image["id"], "ori_shape": (height, width), "pred_instances": found}
        )
    return samples


def measured(metric: CocoMetric, samples: list[dict[str, Any]]) -> dict[str, float]:
    metric.dataset_meta = {"classes": tuple(f"digit_{digit}" for digit in range(10))}
    metric.process({}, copy.deepcopy(samples))
    return metric.evaluate(size=len(samples))


OPTIONS = [{}, {"classwise": True}, {"metric": ["proposal"]}]


@needs_faster
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "classwise", "proposal"])
def test_either_backend_is_mmdetections_metric(annotations: Path, options: dict[str, Any]) -> None:
    options = {"ann_file": str(annotations), "metric": ["bbox", "segm"], **options}
    samples = seen(annotations)
    expected = measured(CocoMetric(**options), samples)
    # -1 where no object has the size.
    assert sum(0 < value < 1 for value in expected.values()) > 3
    for backend in ("pycocotools", "faster_coco_eval"):
        config = {"type": "MiCLCocoMetric", "backend": backend, **options}
        assert measured(METRICS.build(config), samples) == expected, backend
    # mmdetection's own is left as it was.
    assert measured(CocoMetric(**options), samples) == expected


def evaluation(
    backend: str,
    truth: dict[str, Any],
    found: list[dict[str, Any]],
    kind: str,
    most: tuple[int, ...] = (1, 10, 100),
) -> Any:
    annotations = COCO()
    annotations.dataset = copy.deepcopy(truth)
    annotations.createIndex()
    found = [{k: v for k, v in e.items() if kind == "bbox" or k != "bbox"} for e in found]
    done = evaluator(backend)(annotations, annotations.loadRes(copy.deepcopy(found)), kind)
    done.params.maxDets = list(most)
    done.evaluate()
    done.accumulate()
    done.summarize()
    return done


def assert_equal(truth: dict[str, Any], found: list[dict[str, Any]], **options: Any) -> list[Any]:
    """All precisions, recalls and summaries of both backends agree."""
    pairs = []
    for kind in ("bbox", "segm"):
        slow, fast = (
            evaluation(backend, truth, found, kind, **options)
            for backend in ("pycocotools", "faster_coco_eval")
        )
        for name in ("precision", "recall"):
            np.testing.assert_allclose(fast.eval[name], slow.eval[name], rtol=0, atol=1e-6)
        np.testing.assert_allclose(fast.stats, slow.stats, rtol=0, atol=1e-6)
        pairs.append((slow, fast))
    return pairs


@needs_faster
@pytest.mark.parametrize("digits", [8, 1], ids=["any scores", "equal scores"])
def test_hundreds_of_images_give_the_same(digits: int) -> None:
    truth, found = scenes(images=300, categories=6)
    assert any(entry["iscrowd"] for entry in truth["annotations"])
    for entry in found:
        entry["score"] = round(entry["score"], digits)
    for slow, _ in assert_equal(truth, found):
        assert 0.05 < slow.stats[0] < 0.9


@needs_faster
def test_more_than_a_hundred_detections_count_as_in_pycocotools() -> None:
    """AP is that of the best 100 of an image and category, though 1000 are evaluated."""
    truth, found = scenes(images=12, categories=3)
    # Nothing is there, and most of the good ones have lower scores.
    runs = mask.frPyObjects([[110, 110, 115, 110, 115, 115]], 120, 120)[0]
    junk = {"category_id": 1, "bbox": [110, 110, 5, 5], "segmentation": runs, "score": 0.8}
    for image in truth["images"]:
        found += [{**junk, "image_id": image["id"]}] * 100
    for slow, fast in assert_equal(truth, found, most=(100, 300, 1000)):
        # faster-coco-eval's own summary, which mmdetection's FasterCocoMetric takes, says otherwise.
        type(fast).__mro__[1].summarize(fast)
        assert abs(fast.stats[0] - slow.stats[0]) > 1e-3


def test_a_backend_that_is_not_there_is_refused_before_training(
    annotations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluator("pycocotools") is COCOeval
    with pytest.raises(InputError, match="unknown backend 'cuda'"):
        MiCLCocoMetric(ann_file=str(annotations), backend="cuda")
    # As Python does where a package is missing.
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(InputError, match="pip install faster-coco-eval") as refused:
        MiCLCocoMetric(ann_file=str(annotations), backend="faster_coco_eval")
    assert "\n" not in str(refused.value)
