"""Pencil outlines on white paper, as ImageNet-Sketch shows its classes without colour or texture.

H. Wang et al., Learning Robust Global Representations by Penalizing Local Predictive Power,
NeurIPS 2019, https://arxiv.org/abs/1905.13549.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from micl_bench.data.embedded.ink import PICTURE_SIZE, Floats, blend, render_ink, write_picture
from micl_bench.data.embedded.scans import Scans, random_stream

# Drawn this many times larger, then reduced: lines thinner than a pixel stay even.
_OVERSAMPLING = 4
# The rest is in pixels of the finished picture.
_LINE_WIDTH = 1.5
_WOBBLE = 0.45
_WOBBLE_LENGTH = 2.5
_PENCIL = np.array([0.13, 0.13, 0.13], dtype=np.float32)
_PAPER = np.array([1.0, 1.0, 1.0], dtype=np.float32)


def write(folder: Path, scans: Scans, *, seed: int) -> dict[str, int]:
    """Write one sketch of each reserve scan."""
    random = random_stream(seed, "sketches")
    reserve = scans.members["reserve"].tolist()
    for scan in reserve:
        picture = _draw_sketch(scans.inks[scan], random)
        write_picture(folder, picture, digit=int(scans.digits[scan]), scan=scan)
    return {"test": len(reserve)}


def _draw_sketch(scan_HW: Floats, random: np.random.Generator) -> Floats:
    # Thick strokes leave white between the two outlines of each.
    ink = render_ink(scan_HW, PICTURE_SIZE * _OVERSAMPLING, level=0.36)
    inside = _wobble(ink, random) > 0.5
    # Distance to the stroke's border from either side.
    distance = distance_transform_edt(inside) + distance_transform_edt(~inside)
    line = np.clip(_LINE_WIDTH * _OVERSAMPLING / 2 - distance + 0.5, 0, 1).astype(np.float32)
    small = Image.fromarray(line).resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BOX)
    pressure = random.uniform(0.8, 1.0)
    return blend(np.asarray(small) * np.float32(pressure), _PENCIL, _PAPER)


def _wobble(ink_HW: Floats, random: np.random.Generator) -> Floats:
    """Shift smoothly by random amounts, as an unsteady hand does."""
    height, width = ink_HW.shape
    # Smooth noise is made coarse and enlarged: filtering it at full size takes ten times as long.
    noise_2hw = random.standard_normal((2, PICTURE_SIZE, PICTURE_SIZE)).astype(np.float32)
    coarse = [gaussian_filter(noise, _WOBBLE_LENGTH) for noise in noise_2hw]
    fine = [
        np.asarray(
            Image.fromarray(noise / noise.std()).resize((width, height), Image.Resampling.BILINEAR)
        )
        for noise in coarse
    ]
    grid = np.indices((height, width), dtype=np.float32)
    shifted = grid + np.stack(fine) * np.float32(_WOBBLE * _OVERSAMPLING)
    return map_coordinates(ink_HW, shifted, order=1, mode="constant")
