"""Digits in other media, as ImageNet-R shows its classes in paintings, graffiti and embroidery.

D. Hendrycks et al., The Many Faces of Robustness, ICCV 2021, https://arxiv.org/abs/2006.16241.
Each medium changes colour, stroke or texture; brightness always separates ink from paper, so a
person reads every one.
"""

import colorsys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from micl_bench.data.embedded.ink import PICTURE_SIZE, Floats, blend, render_ink, write_picture
from micl_bench.data.embedded.photographs import cut_piece, luminance
from micl_bench.data.embedded.scans import Scans, random_stream

Photographs = list[Image.Image]
Medium = Callable[[Floats, Photographs, np.random.Generator], Floats]

_MAX_DEGREES = 10.0
_NORMAL, _THICK, _THIN = 0.42, 0.28, 0.54
# Brightness ranges that never meet.
_DARK, _LIGHT = (0.02, 0.34), (0.66, 0.98)


def write(folder: Path, scans: Scans, photographs: Photographs, *, seed: int) -> dict[str, int]:
    """Write one rendition of each reserve scan; the media take turns."""
    random = random_stream(seed, "renditions")
    reserve = random.permutation(scans.members["reserve"]).tolist()
    for turn, scan in enumerate(reserve):
        picture = MEDIA[turn % len(MEDIA)](scans.inks[scan], photographs, random)
        write_picture(folder, picture, digit=int(scans.digits[scan]), scan=scan)
    return {"test": len(reserve)}


def _paint(scan_HW: Floats, _: Photographs, random: np.random.Generator) -> Floats:
    """A broad brush: flat coloured ink on coloured paper."""
    ink_range, paper_range = _two_ranges(random)
    ink = _turned_ink(scan_HW, random, level=_THICK)
    return blend(ink, _colour(random, ink_range), _colour(random, paper_range))


def _pen(scan_HW: Floats, _: Photographs, random: np.random.Generator) -> Floats:
    """A thin coloured line on tinted paper."""
    ink = _turned_ink(scan_HW, random, level=_THIN)
    return blend(ink, _colour(random, _DARK), _colour(random, _LIGHT))


def _chalk(scan_HW: Floats, _: Photographs, random: np.random.Generator) -> Floats:
    """Light, broken strokes on a dark board."""
    ink = _turned_ink(scan_HW, random, level=_NORMAL)
    grain = random.uniform(0.45, 1.15, ink.shape).astype(np.float32).clip(max=1)
    return blend(ink * grain, _colour(random, (0.85, 0.98)), _colour(random, (0.05, 0.25)))


def _cut_out(scan_HW: Floats, photographs: Photographs, random: np.random.Generator) -> Floats:
    """Cut from a photograph and pasted on plain paper."""
    ink_range, paper_range = _two_ranges(random)
    ink = _turned_ink(scan_HW, random, level=_THICK)
    return blend(ink, _texture(photographs, random, ink_range), _colour(random, paper_range))


def _mural(scan_HW: Floats, photographs: Photographs, random: np.random.Generator) -> Floats:
    """Painted over a photograph."""
    ink_range, paper_range = _two_ranges(random)
    ink = _turned_ink(scan_HW, random, level=_NORMAL)
    return blend(ink, _colour(random, ink_range), _texture(photographs, random, paper_range))


def _mosaic(scan_HW: Floats, photographs: Photographs, random: np.random.Generator) -> Floats:
    """One photograph's texture set into another's."""
    ink_range, paper_range = _two_ranges(random)
    ink = _turned_ink(scan_HW, random, level=_THICK)
    textures = [_texture(photographs, random, bounds) for bounds in (ink_range, paper_range)]
    return blend(ink, textures[0], textures[1])


MEDIA: tuple[Medium, ...] = (_paint, _pen, _chalk, _cut_out, _mural, _mosaic)


def _turned_ink(scan_HW: Floats, random: np.random.Generator, *, level: float) -> Floats:
    degrees = float(random.uniform(-_MAX_DEGREES, _MAX_DEGREES))
    return render_ink(scan_HW, PICTURE_SIZE, level=level, degrees=degrees)


def _two_ranges(
    random: np.random.Generator,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Brightness of ink and of paper: one dark, one light."""
    return (_DARK, _LIGHT) if random.random() < 0.5 else (_LIGHT, _DARK)


def _colour(random: np.random.Generator, bounds: tuple[float, float]) -> Floats:
    """A random hue, moved to a brightness within the bounds: (3,)."""
    rgb = colorsys.hsv_to_rgb(random.random(), random.uniform(0.35, 1.0), 1.0)
    return _at_brightness(np.array(rgb, dtype=np.float32), float(random.uniform(*bounds)))


def _at_brightness(colour: Floats, brightness: float) -> Floats:
    """Mix with black or white until the colour is as bright as wanted."""
    now = float(luminance(colour))
    if brightness <= now:
        return colour * np.float32(brightness / now)
    white = np.float32((brightness - now) / (1 - now))
    return colour + white * (1 - colour)


def _texture(
    photographs: Photographs, random: np.random.Generator, bounds: tuple[float, float]
) -> Floats:
    """A piece of a photograph whose contrast is squeezed into the bounds: (H, W, 3)."""
    piece = cut_piece(photographs, random, size=PICTURE_SIZE, region="all", sides=(48, 160))
    low, high = float(piece.min()), float(piece.max())
    stretched = (piece - low) / max(high - low, 1e-3)
    return (bounds[0] + stretched * (bounds[1] - bounds[0])).astype(np.float32)
