"""Evaluated images of fewer classes than the training images are told of."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from micl_bench.tasks._frozen import open_folders, open_splits


def fill(folder: Path, classes: str) -> None:
    for name in classes:
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / name / "1.png")


@pytest.mark.parametrize("open_both", [open_folders, open_splits])
@pytest.mark.parametrize("there", ["ae", "abcde"])
def test_a_val_that_lacks_classes_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], open_both: Any, there: str
) -> None:
    fill(tmp_path / "train", "abcde")
    fill(tmp_path / "val", there)
    open_both(tmp_path)
    told = f"warning: {tmp_path / 'val'} has images of 2 of the 5 training classes\n"
    assert capsys.readouterr().err == (told if there == "ae" else "")
