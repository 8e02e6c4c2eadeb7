"""The clean set, laid out as ImageNet: dark ink on light paper, nothing else."""

from pathlib import Path

import numpy as np

from micl_bench.data.embedded.ink import PICTURE_SIZE, Floats, blend, render_ink, write_picture
from micl_bench.data.embedded.scans import Scans

_INK = np.array([0.12, 0.12, 0.16], dtype=np.float32)
_PAPER = np.array([0.95, 0.94, 0.90], dtype=np.float32)


def draw_clean(scan_HW: Floats) -> Floats:
    """One scan as a plain picture (H, W, 3)."""
    return blend(render_ink(scan_HW, PICTURE_SIZE), _INK, _PAPER)


def write(folder: Path, scans: Scans) -> dict[str, int]:
    """Write both splits; returns the number of images in each."""
    splits = ("train", "val")
    for split in splits:
        for scan in scans.members[split].tolist():
            picture = draw_clean(scans.inks[scan])
            write_picture(folder / split, picture, digit=int(scans.digits[scan]), scan=scan)
    return {split: len(scans.members[split]) for split in splits}
