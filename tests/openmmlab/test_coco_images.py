"""The images that the COCO configs train on: scaled, flipped, cut, padded, boxes and masks too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from openmmlab.coco_configs import (
    CATEGORIES,
    COCO_IDS,
    DEPTHS,
    ONE_X,
    SIDE,
    VITDET,
    small_config,
)
from openmmlab.tiny_runs import tiny
from PIL import Image

# A picture in which the object alone is blue; larger than the crop, not square.
WIDE, HIGH = 160, 120
OBJECT = (10, 10, 50, 45)


@pytest.fixture(autouse=True)
def _in_mmdets_scope() -> None:
    """Of which `conftest` leaves nothing."""
    init_default_scope("mmdet")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As deep as ViT-B, and narrow."""
    return tiny(tmp_path_factory.mktemp("checkpoint") / "b.pt", depth=DEPTHS["b"])


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("picture")
    x1, y1, x2, y2 = OBJECT
    pixels = np.full((HIGH, WIDE, 3), (200, 100, 0), dtype=np.uint8)
    pixels[y1:y2, x1:x2, 2] = 255
    (folder / "train2017").mkdir()
    Image.fromarray(pixels).save(folder / "train2017" / "one.png")
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": COCO_IDS[-1],
        "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
    }
    content = {
        "images": [{"id": 1, "file_name": "one.png", "width": WIDE, "height": HIGH}],
        "annotations": [annotation],
        "categories": CATEGORIES,
    }
    (folder / "annotations").mkdir()
    file = folder / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps(content))
    file.with_name("instances_val2017.json").write_text(json.dumps(content))
    (folder / "val2017").symlink_to(folder / "train2017")
    return folder


def drawn(config: Config, number: int) -> list[dict[str, Any]]:
    """As many items of the training data set, which has one picture."""
    dataset = {**config.train_dataloader.dataset, "indices": None}
    built = DATASETS.build(dataset)
    np.random.seed(0)
    return [built[0] for _ in range(number)]


def test_large_scale_jitter(picture: Path, checkpoint: str) -> None:
    config = small_config(VITDET["b"], checkpoint, picture)
    scales, flips, empty = [], [], 0
    for item in drawn(config, 200):
        image, sample = item["inputs"].numpy(), item["data_samples"]
        (width, height), fit = sample.scale_factor, SIDE / WIDE
        # Fitted into a square of 0.1 to 2 times the side, in the picture's own proportions.
        assert width * WIDE / (height * HIGH) == pytest.approx(WIDE / HIGH, rel=0.15)
        scales.append(width / fit)
        flips.append(sample.flip)
        resized = (round(height * HIGH), round(width * WIDE))
        assert image.shape[1:] == tuple(min(SIDE, side) for side in resized) == sample.img_shape
        boxes = sample.gt_instances.bboxes.tensor.numpy()
        masks = sample.gt_instances.masks.to_ndarray().astype(bool)
        empty += not len(boxes)
        for box, mask in zip(boxes, masks, strict=True):
            assert sample.gt_instances.labels.tolist() == [79]
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == tight
            # The blue pixels and the mask are the same, but for a pixel of blur along the edge.
            blue = image[0] > 127
            assert (blue ^ mask).sum() <= blue_edge(tight)
    # Sides are whole pixels: 6 of 64 for a tenth.
    assert 6 / SIDE - 1e-9 < min(scales) < 0.15
    assert 1.95 < max(scales) < 2.0 + 1e-9
    assert np.mean(scales) == pytest.approx(1.05, abs=0.12)
    assert 0.4 < np.mean(flips) < 0.6
    # Cut out where the object is not, and trained on all the same.
    assert 0 < empty < 40


def blue_edge(box: list[int]) -> int:
    x1, y1, x2, y2 = box
    return 2 * (x2 - x1 + y2 - y1) + 4


def test_padded_to_the_square_with_the_mean_colour(picture: Path, checkpoint: str) -> None:
    config = small_config(VITDET["b"], checkpoint, picture)
    preprocessor = MODELS.build(config.model.data_preprocessor)
    items = drawn(config, 12)
    shapes = [item["data_samples"].img_shape for item in items]
    assert any(max(shape) < SIDE for shape in shapes)
    for training in (True, False):
        batch = {
            "inputs": [item["inputs"] for item in items],
            "data_samples": [item["data_samples"].clone() for item in items],
        }
        done = preprocessor(batch, training=training)
        assert done["inputs"].shape == (12, 3, SIDE, SIDE)
        for image, sample, (height, width) in zip(
            done["inputs"], done["data_samples"], shapes, strict=True
        ):
            # What is not picture is the mean colour, and no box may reach into it.
            assert not image[:, height:].any()
            assert not image[:, :, width:].any()
            assert sample.img_shape == (height, width)
            masks = sample.gt_instances.masks.to_ndarray()
            if training:
                assert masks.shape[1:] == (SIDE, SIDE)
                assert not masks[:, height:].any()
                assert not masks[:, :, width:].any()


def test_half_of_the_1x_images_are_cut(picture: Path, checkpoint: str) -> None:
    """Short sides are those of the list, or less where the long side is at its limit."""
    config = small_config(ONE_X["b"], checkpoint, picture)
    proportions, shorts = [], set()
    for item in drawn(config, 120):
        height, width = item["data_samples"].img_shape
        proportions.append(width / height)
        shorts.add(min(height, width))
        assert max(height, width) <= 96
        boxes = item["data_samples"].gt_instances.bboxes.tensor
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
    whole = [abs(value - WIDE / HIGH) < 0.03 for value in proportions]
    assert 0.35 < np.mean(whole) < 0.75
    assert {64, 72} <= shorts


def test_a_batch_of_empty_crops_is_trained_on(picture: Path, checkpoint: str) -> None:
    config = small_config(VITDET["b"], checkpoint, picture)
    items = [i for i in drawn(config, 80) if not len(i["data_samples"].gt_instances)][:2]
    model = MODELS.build(config.model)
    batch = {
        "inputs": [item["inputs"] for item in items],
        "data_samples": [item["data_samples"] for item in items],
    }
    losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    # Every process has a gradient for everything, whatever it drew.
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
