"""`bench coco-eval`: what it makes up is a COCO file, and what it times it compares."""

import numpy as np
import pytest

pytest.importorskip("mmengine")

from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from micl_bench.bench.coco_eval import CocoEvalSettings, bench_coco_eval, made_up
from micl_bench.runtime.errors import InputError


def test_the_benchmark_compares_what_it_times() -> None:
    pytest.importorskip("faster_coco_eval")
    results = bench_coco_eval(CocoEvalSettings(images=30, detections=20, categories=4))
    names = [
        f"{kind}_{name}"
        for kind in ("bbox", "segm")
        for name in ("pycocotools", "faster_coco_eval")
    ]
    assert [result["name"] for result in results] == names
    for result in results:
        assert result["seconds"] > 0
        assert result["largest_difference"] < 1e-6
        assert 0 < result["AP"] < 1


def test_made_up_masks_fit_their_boxes() -> None:
    truth, found = made_up(CocoEvalSettings(images=10, detections=5))
    annotations = COCO()
    annotations.dataset = truth
    annotations.createIndex()
    for entry in annotations.anns.values():
        runs = annotations.annToRLE(entry)
        np.testing.assert_allclose(coco_masks.toBbox(runs), entry["bbox"], atol=1.5)
        assert coco_masks.area(runs) == entry["area"]
    assert {entry["category_id"] for entry in found} <= {*range(1, 81)}


def test_settings_that_measure_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="images is 0"):
        CocoEvalSettings(images=0)
