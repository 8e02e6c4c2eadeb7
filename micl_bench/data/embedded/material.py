"""The material of the pictures: scans of handwritten digits as smooth ink, and pieces of photographs.

Scans: 1797 of 8x8 pixels with 17 grey levels, E. Alpaydin and C. Kaynak, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository, 1998; the copy inside scikit-learn (`load_digits`).
Photographs: the two inside scikit-learn, both under CC BY 2.0: `china.jpg` by danielbuechele,
`flower.jpg` by vultilion (flickr.com). Ink is opacity: float in [0, 1], shape (H, W). Pictures are float
RGB in [0, 1], shape (H, W, 3).
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits, load_sample_images

Floats = NDArray[np.float32]

CLASSES = tuple(f"digit_{digit}" for digit in range(10))
PICTURE_SIZE = 32
_JPEG_QUALITY = 92
_SHARPENING = 0.8
# Shares of each class. The shifted sets share the reserve; it is not smaller than val, so that there are
# enough scans for the hardest of them to be hard.
_SHARES = {"train": 0.6, "val": 0.2, "reserve": 0.2}
# Parts of the photographs' width, with a gap: backgrounds of training and validation share no edge.
_REGIONS = {"train": (0.0, 0.58), "val": (0.62, 1.0), "all": (0.0, 1.0)}


@dataclass(frozen=True, kw_only=True)
class Scans:
    """All scans and the group of each; a scan is named by its index in scikit-learn's order."""

    inks: NDArray[np.float32]
    """(N, 8, 8); 0 is paper, 1 is full ink."""
    digits: NDArray[np.int64]
    members: dict[str, NDArray[np.int64]]
    """The ascending indices of each group's scans."""

    def counts(self) -> dict[str, int]:
        """Return the number of scans in each group."""
        return {group: len(indices) for group, indices in self.members.items()}


def random_stream(seed: int, purpose: str) -> np.random.Generator:
    """Return independent random numbers per purpose, so that a change to one part moves no other."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *purpose.encode()])))


def load_scans(seed: int) -> Scans:
    """Load the scans and split each class at random."""
    bunch = load_digits()
    digit_N = bunch.target.astype(np.int64)
    random = random_stream(seed, "split")
    pieces: dict[str, list[NDArray[np.int64]]] = {group: [] for group in _SHARES}
    for digit in range(10):
        shuffled = random.permutation(np.flatnonzero(digit_N == digit))
        ends = np.rint(np.cumsum([*_SHARES.values()])[:-1] * len(shuffled)).astype(int)
        for group, part in zip(_SHARES, np.split(shuffled, ends), strict=True):
            pieces[group].append(part)
    members = {group: np.sort(np.concatenate(parts)) for group, parts in pieces.items()}
    return Scans(inks=(bunch.images / 16).astype(np.float32), digits=digit_N, members=members)


def render_ink(scan_HW: Floats, size: int, *, level: float = 0.42, degrees: float = 0.0) -> Floats:
    """Return the ink of a scan, `size` pixels wide and filling them as the clean set's pictures do.

    Args:
        scan_HW: 8x8 grey levels, 1 is full ink.
        size: width and height of the result in pixels.
        level: grey level at the stroke's border; a lower one gives thicker strokes.
        degrees: rotation, counter-clockwise.
    """
    # So few pixels blur: one darker than its neighbourhood was a stroke, a lighter one was a gap.
    # Without this the holes of an 8 close.
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
    """Return a JPEG with full colour resolution; half of it would smear strokes of this size."""
    pixels = np.rint(np.clip(picture_HW3, 0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def write_picture(folder: Path, picture_HW3: Floats, scans: Scans, scan: int) -> None:
    """Write one picture into its class folder, named after the scan that it shows."""
    path = folder / CLASSES[scans.digits[scan]] / f"scan_{scan:04d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(picture_HW3))


def load_photographs() -> list[Image.Image]:
    """Return a temple by a lake and a dahlia, 640x427 each."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def cut_piece(
    photographs: list[Image.Image],
    random: np.random.Generator,
    *,
    size: int,
    region: str,
    sides: tuple[int, int],
) -> Floats:
    """Cut a random square of a photograph, mirrored half of the time and resized: (size, size, 3).

    `sides` bounds the square's side in the photograph's pixels; `region` is a key of `_REGIONS`.
    """
    photograph = photographs[random.integers(len(photographs))]
    left, right = (round(share * photograph.width) for share in _REGIONS[region])
    side = int(random.integers(sides[0], min(sides[1], right - left, photograph.height) + 1))
    x = int(random.integers(left, right - side + 1))
    y = int(random.integers(0, photograph.height - side + 1))
    piece = photograph.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
    if random.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(piece, dtype=np.float32) / np.float32(255)
