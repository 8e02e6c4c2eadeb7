"""The stand-in for mmcv's compiled operators, against direct computations."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.openmmlab import operators

if not operators.install():
    pytest.skip("mmcv's own operators are compiled here", allow_module_level=True)

from mmcv.ops import RoIAlign, RoIPool, batched_nms, nms, roi_align, soft_nms


def bilinear(map_HW: NDArray[np.float64], y: float, x: float) -> float:
    """Value between pixel centres; 0 more than one pixel outside, the edge's value up to there."""
    height, width = map_HW.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    return float(
        map_HW[top, left] * (1 - down) * (1 - across)
        + map_HW[top, right] * (1 - down) * across
        + map_HW[bottom, left] * down * (1 - across)
        + map_HW[bottom, right] * down * across
    )


def naive_roi_align(
    features: NDArray[np.float64],
    rois: NDArray[np.float64],
    size: tuple[int, int],
    scale: float,
    ratio: int,
    aligned: bool,
) -> NDArray[np.float64]:
    out = np.zeros((len(rois), features.shape[1], *size))
    shift = 0.5 if aligned else 0.0
    for r, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (corner * scale - shift for corner in corners)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        rows = ratio or math.ceil(height / size[0])
        columns = ratio or math.ceil(width / size[1])
        for c, i, j in np.ndindex(out.shape[1:]):
            for a, b in np.ndindex(rows, columns):
                y = y1 + (i + (a + 0.5) / rows) * height / size[0]
                x = x1 + (j + (b + 0.5) / columns) * width / size[1]
                out[r, c, i, j] += bilinear(features[int(image), c], y, x) / (rows * columns)
    return out


def example() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 9, 11, generator=random, dtype=torch.float64)
    rois = torch.tensor(
        [
            [0, 3.0, 4.0, 17.0, 15.0],
            [1, -9.0, -6.0, 8.0, 5.0],  # reaches outside, above and left
            [1, 12.0, 10.0, 40.0, 30.0],  # and below and right
            [0, 5.0, 5.0, 5.6, 5.4],  # less than one cell
            [0, 60.0, 60.0, 70.0, 70.0],  # nowhere on the map
        ],
        dtype=torch.float64,
    )
    return features, rois


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_roi_align_is_the_mean_of_bilinear_samples(aligned: bool, ratio: int, scale: float) -> None:
    features, rois = example()
    ours = roi_align(features, rois, (3, 2), scale, ratio, "avg", aligned)
    expected = naive_roi_align(features.numpy(), rois.numpy(), (3, 2), scale, ratio, aligned)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_gradient_is_the_numerical_one(aligned: bool, ratio: int) -> None:
    features, rois = example()

    def pooled(features: Tensor) -> Tensor:
        return roi_align(features, rois, (3, 2), 0.5, ratio, "avg", aligned)

    assert torch.autograd.gradcheck(pooled, features.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_roi_align_under_autocast_has_the_gradient_of_fp32(dtype: torch.dtype) -> None:
    # As mmdetection calls it: maps and boxes in the same precision.
    features, rois = (value.to(dtype) for value in example())
    found = []
    for kind in (torch.float32, dtype):
        maps = features.float().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=kind == dtype):
            pooled = roi_align(maps.to(kind), rois.to(kind), (3, 2), 0.5, 2, "avg")
        pooled.float().square().sum().backward()
        found.append(maps.grad)
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0.05)
    assert found[0].abs().max() > 1


def test_roi_align_module_agrees_with_torchvisions() -> None:
    features, rois = (value.float() for value in example())
    for options in ({"aligned": True}, {"aligned": False}):
        ours = RoIAlign((7, 7), 0.5, 2, **options)(features, rois)
        theirs = RoIAlign((7, 7), 0.5, 2, use_torchvision=True, **options)(features, rois)
        assert torch.equal(ours, theirs)


def test_roi_align_without_boxes() -> None:
    features, _ = example()
    features.requires_grad_()
    pooled = roi_align(features, features.new_zeros(0, 5), (3, 2), 1.0, 2, "avg", True)
    pooled.sum().backward()
    assert pooled.shape == (0, 3, 3, 2)
    assert not features.grad.any()


def test_max_pooling_is_refused() -> None:
    features, rois = example()
    with pytest.raises(operators.MissingOperatorError, match="pool_mode='max'"):
        roi_align(features, rois, (3, 2), 1.0, 2, "max", True)


def naive_nms(
    boxes: list[list[float]], scores: list[float], limit: float, offset: int
) -> list[int]:
    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1 + offset, 0) * max(y2 - y1 + offset, 0)

    def overlap(a: list[float], b: list[float]) -> float:
        shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
        return shared / (area(*a) + area(*b) - shared)

    kept: list[int] = []
    # `sorted` is stable: of equal scores, the first box wins.
    for index in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        if all(overlap(boxes[index], boxes[other]) <= limit for other in kept):
            kept.append(index)
    return kept


def crowd(num_boxes: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(num_boxes)
    corners = torch.randint(0, 20, (num_boxes, 2), generator=random)
    sides = torch.randint(2, 12, (num_boxes, 2), generator=random)
    # Ten levels of score for 60 boxes: ties are certain.
    scores = torch.randint(1, 11, (num_boxes,), generator=random) / 10
    return torch.cat([corners, corners + sides], dim=1).float(), scores


@pytest.mark.parametrize("offset", [0, 1])
# Limits that no ratio of small whole numbers hits, where rounding would decide.
@pytest.mark.parametrize("limit", [0.3001, 0.5001])
def test_nms_keeps_what_a_loop_keeps(limit: float, offset: int) -> None:
    boxes, scores = crowd(60)
    kept, indices = nms(boxes, scores, limit, offset=offset)
    assert indices.tolist() == naive_nms(boxes.tolist(), scores.tolist(), limit, offset)
    assert torch.equal(kept, torch.cat([boxes, scores[:, None]], dim=1)[indices])
    assert 1 < len(indices) < 60


def test_nms_breaks_ties_by_order() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10]])
    assert nms(boxes, torch.ones(3), 0.5)[1].tolist() == [0]


def test_nms_without_boxes() -> None:
    kept, indices = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert kept.shape == (0, 5)
    assert indices.shape == (0,)


def test_batched_nms_never_compares_classes() -> None:
    boxes, scores = crowd(60)
    classes = torch.arange(60) % 3
    _, indices = batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.5})
    expected = []
    for label in range(3):
        own = torch.nonzero(classes == label)[:, 0]
        kept = naive_nms(boxes[own].tolist(), scores[own].tolist(), 0.5, 0)
        expected += own[kept].tolist()
    assert sorted(indices.tolist()) == sorted(expected)
    assert (scores[indices].diff() <= 0).all()


def test_an_operator_that_torchvision_has_not_raises_when_called() -> None:
    boxes, scores = crowd(3)
    with pytest.raises(operators.MissingOperatorError, match="'softnms'"):
        soft_nms(boxes, scores)
    with pytest.raises(operators.MissingOperatorError, match="'roi_pool_forward'"):
        RoIPool((2, 2), 1.0)(example()[0], example()[1])


def test_the_stand_in_does_not_pass_for_compiled_operators() -> None:
    from mmcv.utils import ext_loader

    assert not ext_loader.check_ops_exist()
    assert operators.install()
    import mmcv._ext

    assert not hasattr(mmcv._ext, "__file__")
