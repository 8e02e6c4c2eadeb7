"""Numbers in label masks: faults by hand, histograms against NumPy's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from micl_bench.data.dense_checks import add_labels, histogram, label_fault


def masks(folder: Path, *arrays: list[list[int]]) -> list[Path]:
    files = [folder / f"{index}.png" for index in range(len(arrays))]
    for file, array in zip(files, arrays, strict=True):
        Image.fromarray(np.array(array, dtype=np.uint8)).save(file)
    return files


@pytest.mark.parametrize(
    ("numbers", "reduce_zero_label", "fault"),
    [
        ([0, 1, 2, 3], True, ""),
        ([1, 3], True, ""),
        # Own data with both 0 and 255 left out: class 3 is there, so nothing was subtracted.
        ([0, 1, 3, 255], True, ""),
        ([0, 2, 255], True, "1 was subtracted already"),
        ([1, 2, 4], True, "1 was added"),
        ([0, 4], True, "label 4 is above 3, the last of 3 classes"),
        ([0, 1, 2, 255], False, ""),
        ([0, 1, 3], False, "reduce_zero_label is missing"),
        ([1, 2, 3], False, "1 was added"),
        ([0, 9, 8, 7, 6], False, "labels 6, 7, 8, ... are above 2"),
    ],
)
def test_faults_of_three_classes(
    tmp_path: Path, numbers: list[int], reduce_zero_label: bool, fault: str
) -> None:
    labels = add_labels(map(histogram, masks(tmp_path, [numbers], [numbers[:1]])))
    assert labels.present() == set(numbers)
    assert labels.masks == 2
    found = label_fault(labels, num_classes=3, reduce_zero_label=reduce_zero_label)
    assert fault in found
    assert bool(fault) == bool(found)


def test_histograms_are_numpys(tmp_path: Path) -> None:
    label_HW = np.random.default_rng(0).integers(0, 256, (31, 17)).tolist()
    (file,) = masks(tmp_path, label_HW)
    assert histogram(file).tolist() == np.bincount(np.ravel(label_HW), minlength=256).tolist()
    Image.new("RGB", (4, 4)).save(file)
    with pytest.raises(ValueError, match="mode RGB"):
        histogram(file)
