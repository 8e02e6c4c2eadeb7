"""The sets of single digits: clean ones, laid out as ImageNet, and three shifted ones of reserve scans.

Clean: dark ink on light paper, nothing else. The scan's own 16 grey levels are kept, only enlarged:
scans of one digit differ by them, on which contrasting images depends. With strokes
sharpened to plain ink, as the shifted sets draw them, MiCL's loss stayed at chance for 300 steps.

Hard (D. Hendrycks et al., Natural Adversarial Examples, CVPR 2021, arXiv 1907.07174): unmodified
pictures of a subset of the classes, chosen because a fixed classifier fails on them; here it is logistic
regression on the 8x8 pixels of the train scans.

Renditions (D. Hendrycks et al., The Many Faces of Robustness, ICCV 2021, arXiv 2006.16241): other media;
each changes colour, stroke or texture; brightness always separates ink from paper, so a person reads
every one.

Sketches (H. Wang et al., Learning Robust Global Representations by Penalizing Local Predictive Power,
NeurIPS 2019, arXiv 1905.13549): pencil outlines on white paper, without colour or texture.
"""

import colorsys
import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from micl_bench.data.embedded.material import (
    PICTURE_SIZE,
    Floats,
    Scans,
    blend,
    cut_piece,
    random_stream,
    render_ink,
    write_picture,
)

Photographs = list[Image.Image]
_Range = tuple[float, float]

_INK = np.array([0.12, 0.12, 0.16], dtype=np.float32)
_PAPER = np.array([0.95, 0.94, 0.90], dtype=np.float32)
_NUM_CLASSES = 6
_NUM_IMAGES = 80
# In logits: beyond it a scan is safely right, and being righter says nothing on the class.
_SAFE_MARGIN = 2.0

_MAX_DEGREES = 10.0
_NORMAL, _THICK, _THIN = 0.42, 0.28, 0.54
# Brightness ranges that never meet.
_DARK, _LIGHT = (0.02, 0.34), (0.66, 0.98)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Brightness as the eye weighs colours."""

# Drawn this many times larger, then reduced: lines thinner than a pixel stay even.
_OVERSAMPLING = 4
# The rest is in pixels of the finished picture.
_LINE_WIDTH = 1.5
_WOBBLE = 0.45
_WOBBLE_LENGTH = 2.5
_PENCIL = np.array([0.13, 0.13, 0.13], dtype=np.float32)
_WHITE = np.array([1.0, 1.0, 1.0], dtype=np.float32)


def enlarge(scan_HW: Floats, size: int) -> Floats:
    """Return the ink of a scan, `size` pixels wide and filling them, smooth between its pixels."""
    grey = Image.fromarray(scan_HW.astype(np.float32))
    return np.clip(np.asarray(grey.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)


def draw_clean(scan_HW: Floats, *, size: int = PICTURE_SIZE) -> Floats:
    """Return one scan as a plain picture (size, size, 3)."""
    return blend(enlarge(scan_HW, size), _INK, _PAPER)


def write_clean(folder: Path, scans: Scans) -> dict[str, int]:
    """Write both splits, and return the number of images in each."""
    splits = ("train", "val")
    for split in splits:
        for scan in scans.members[split].tolist():
            write_picture(folder / split, draw_clean(scans.inks[scan]), scans, scan)
    return {split: len(scans.members[split]) for split in splits}


def write_hard(folder: Path, scans: Scans) -> dict[str, int]:
    """Write the hardest reserve scans of the most confused classes."""
    chosen = _choose_hard(scans)
    for scan in chosen.tolist():
        write_picture(folder, draw_clean(scans.inks[scan]), scans, scan)
    return {"test": len(chosen)}


def _choose_hard(scans: Scans) -> NDArray[np.int64]:
    """Return the ascending indices of the chosen scans, all from the reserve."""
    reserve = scans.members["reserve"]
    digit_N, margin_N = scans.digits[reserve], _margins(scans, reserve)
    safety = [np.minimum(margin_N[digit_N == digit], _SAFE_MARGIN).mean() for digit in range(10)]
    confused = np.argsort(safety, kind="stable")[:_NUM_CLASSES]
    candidates = np.flatnonzero(np.isin(digit_N, confused))
    hardest = candidates[np.argsort(margin_N[candidates], kind="stable")[:_NUM_IMAGES]]
    return np.sort(reserve[hardest])


def _margins(scans: Scans, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the true class's logit minus the best other one, negative where the classifier is wrong."""
    pixels_ND = scans.inks.reshape(len(scans.inks), -1).astype(np.float64)
    train = scans.members["train"]
    # One thread adds in one order, and is faster than many on matrices this small.
    with threadpool_limits(1):
        classifier = LogisticRegression(max_iter=1000).fit(pixels_ND[train], scans.digits[train])
    logits_NC = classifier.decision_function(pixels_ND[indices])
    rows, truth_N = np.arange(len(indices)), scans.digits[indices]
    true_N = logits_NC[rows, truth_N].copy()
    logits_NC[rows, truth_N] = -np.inf
    # Rounded, so that the last bits of another BLAS do not change the order.
    return np.round(true_N - logits_NC.max(axis=1), 6)


def write_renditions(
    folder: Path, scans: Scans, photographs: Photographs, *, seed: int
) -> dict[str, int]:
    """Write one rendition of each reserve scan; the media take turns."""
    random = random_stream(seed, "renditions")
    reserve = random.permutation(scans.members["reserve"]).tolist()
    for turn, scan in enumerate(reserve):
        medium = _MEDIA[turn % len(_MEDIA)]
        write_picture(folder, _draw(medium, scans.inks[scan], photographs, random), scans, scan)
    return {"test": len(reserve)}


@dataclasses.dataclass(frozen=True)
class _Medium:
    stroke: float
    """`level` of `render_ink`."""
    has_texture: tuple[bool, bool]
    """Ink and paper: a photograph's texture, or one colour."""
    brightness: tuple[_Range, _Range] | None = None
    """Ink's and paper's; for None one is dark and one light, by chance."""
    grainy: bool = False


_MEDIA = (
    # A broad brush on coloured paper; a pen on tinted paper; chalk on a dark board.
    _Medium(_THICK, (False, False)),
    _Medium(_THIN, (False, False), (_DARK, _LIGHT)),
    _Medium(_NORMAL, (False, False), ((0.85, 0.98), (0.05, 0.25)), grainy=True),
    # Cut from a photograph; painted over one; one photograph's texture set into another's.
    _Medium(_THICK, (True, False)),
    _Medium(_NORMAL, (False, True)),
    _Medium(_THICK, (True, True)),
)


def _draw(
    medium: _Medium, scan_HW: Floats, photographs: Photographs, random: np.random.Generator
) -> Floats:
    brightness = medium.brightness
    if brightness is None:
        brightness = (_DARK, _LIGHT) if random.random() < 0.5 else (_LIGHT, _DARK)
    degrees = float(random.uniform(-_MAX_DEGREES, _MAX_DEGREES))
    ink = render_ink(scan_HW, PICTURE_SIZE, level=medium.stroke, degrees=degrees)
    if medium.grainy:
        ink = ink * random.uniform(0.45, 1.15, ink.shape).astype(np.float32).clip(max=1)
    colours = [
        _texture(photographs, random, bounds) if textured else _colour(random, bounds)
        for textured, bounds in zip(medium.has_texture, brightness, strict=True)
    ]
    return blend(ink, colours[0], colours[1])


def _colour(random: np.random.Generator, bounds: _Range) -> Floats:
    """Return a random hue, moved to a brightness within the bounds: (3,)."""
    rgb = colorsys.hsv_to_rgb(random.random(), random.uniform(0.35, 1.0), 1.0)
    colour, brightness = np.array(rgb, dtype=np.float32), float(random.uniform(*bounds))
    # Mixed with black or white until it is as bright as wanted.
    now = float(colour @ _LUMA)
    if brightness <= now:
        return colour * np.float32(brightness / now)
    white = np.float32((brightness - now) / (1 - now))
    return colour + white * (1 - colour)


def _texture(photographs: Photographs, random: np.random.Generator, bounds: _Range) -> Floats:
    """Return a piece of a photograph whose contrast is squeezed into the bounds: (H, W, 3)."""
    piece = cut_piece(photographs, random, size=PICTURE_SIZE, region="all", sides=(48, 160))
    low, high = float(piece.min()), float(piece.max())
    stretched = (piece - low) / max(high - low, 1e-3)
    return (bounds[0] + stretched * (bounds[1] - bounds[0])).astype(np.float32)


def write_sketches(folder: Path, scans: Scans, *, seed: int) -> dict[str, int]:
    """Write one sketch of each reserve scan."""
    random = random_stream(seed, "sketches")
    reserve = scans.members["reserve"].tolist()
    for scan in reserve:
        write_picture(folder, _draw_sketch(scans.inks[scan], random), scans, scan)
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
    return blend(np.asarray(small) * np.float32(pressure), _PENCIL, _WHITE)


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
