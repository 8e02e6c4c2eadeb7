"""Numbers in label masks: faults by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from micl_bench.data.dense_files import label_fault, labels_in


def mask(folder: Path, numbers: list[list[int]]) -> Path:
    Image.fromarray(np.array(numbers, np.uint8)).save(folder / "mask.png")
    return folder / "mask.png"


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
    present = labels_in(mask(tmp_path, [numbers, numbers[::-1]]))
    assert present == set(numbers)
    found = label_fault(present, num_classes=3, reduce_zero_label=reduce_zero_label)
    assert fault in found
    assert bool(fault) == bool(found)


def test_a_mask_of_colours_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="mode RGB"):
        labels_in(tmp_path / "mask.png")
