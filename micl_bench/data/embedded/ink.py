"""From an 8x8 scan to smooth ink at any size, and from ink to a picture on disk.

Ink is opacity: float in [0, 1], shape (H, W). Pictures are float RGB in [0, 1], shape (H, W, 3).
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from micl_bench.data.embedded.manifest import CLASSES

Floats = NDArray[np.float32]

PICTURE_SIZE = 32
_JPEG_QUALITY = 92
_SHARPENING = 0.8


def render_ink(scan_HW: Floats, size: int, *, level: float = 0.42, degrees: float = 0.0) -> Floats:
    """Draw a scan `size` pixels wide, filling them as the clean set's pictures do.

    Args:
        scan_HW: 8x8 grey levels, 1 is full ink.
        size: Width and height of the result in pixels.
        level: Grey level at the stroke's border; a lower one gives thicker strokes.
        degrees: Rotation, counter-clockwise.
    """
    # So few pixels blur: what is darker than its neighbourhood was a stroke, what is lighter was a
    # gap. Without this the holes of an 8 close.
    sharp = scan_HW + _SHARPENING * (scan_HW - gaussian_filter(scan_HW, 1.0, mode="constant"))
    grey = Image.fromarray(sharp)
    smooth = grey.resize((size, size), Image.Resampling.BICUBIC)
    smooth = smooth.rotate(degrees, Image.Resampling.BICUBIC)
    # At a stroke's border grey climbs from 0 to 1 within a scan pixel, which is size / 8 pixels
    # of the result: this much grey makes ink fade over one of them.
    softness = min(0.35, 8.0 / size)
    ramp = (np.asarray(smooth, dtype=np.float32) - level) / softness + 0.5
    clipped = np.clip(ramp, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def blend(ink_HW: Floats, ink_colour: Floats, paper: Floats) -> Floats:
    """Lay ink over paper; each colour is (3,) or a whole picture (H, W, 3)."""
    opacity = ink_HW[..., None]
    return opacity * ink_colour + (1 - opacity) * paper


def encode_jpeg(picture_HW3: Floats) -> bytes:
    """JPEG with full colour resolution: at this size, halving it would smear coloured strokes."""
    pixels = np.rint(np.clip(picture_HW3, 0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def write_picture(folder: Path, picture_HW3: Floats, *, digit: int, scan: int) -> None:
    """Write one picture into its class folder, named after the scan that it shows."""
    path = folder / CLASSES[digit] / f"scan_{scan:04d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(picture_HW3))
