"""The clean set, laid out as ImageNet: dark ink on light paper, nothing else.

The scan's own 16 grey levels are kept, only enlarged: they are what tells one scan of a digit from
another, which is what contrasting images lives on. With strokes sharpened to plain ink, as the other
sets draw them, MiCL's loss stayed at chance for 300 steps.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from micl_bench.data.embedded.ink import PICTURE_SIZE, Floats, blend, write_picture
from micl_bench.data.embedded.scans import Scans

_INK = np.array([0.12, 0.12, 0.16], dtype=np.float32)
_PAPER = np.array([0.95, 0.94, 0.90], dtype=np.float32)


def enlarge(scan_HW: Floats, size: int) -> Floats:
    """Ink of a scan, `size` pixels wide and filling them, smooth between the scan's pixels."""
    grey = Image.fromarray(scan_HW.astype(np.float32))
    return np.clip(np.asarray(grey.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)


def draw_clean(scan_HW: Floats, *, size: int = PICTURE_SIZE) -> Floats:
    """One scan as a plain picture (size, size, 3)."""
    return blend(enlarge(scan_HW, size), _INK, _PAPER)


def write(folder: Path, scans: Scans) -> dict[str, int]:
    """Write both splits; returns the number of images in each."""
    splits = ("train", "val")
    for split in splits:
        for scan in scans.members[split].tolist():
            picture = draw_clean(scans.inks[scan])
            write_picture(folder / split, picture, digit=int(scans.digits[scan]), scan=scan)
    return {split: len(scans.members[split]) for split in splits}
