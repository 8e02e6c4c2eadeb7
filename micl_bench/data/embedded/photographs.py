"""Textures and backgrounds: random pieces of the two photographs inside scikit-learn.

Both are under CC BY 2.0: `china.jpg` by danielbuechele, `flower.jpg` by vultilion (flickr.com).
"""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from micl_bench.data.embedded.ink import Floats

# Shares of the width. The gap keeps training and validation backgrounds from sharing an edge.
REGIONS: dict[str, tuple[float, float]] = {
    "train": (0.0, 0.58),
    "val": (0.62, 1.0),
    "all": (0.0, 1.0),
}
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def load_photographs() -> list[Image.Image]:
    """A temple by a lake and a dahlia, 640x427 each."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def cut_piece(
    photographs: list[Image.Image],
    random: np.random.Generator,
    *,
    size: int,
    region: str,
    sides: tuple[int, int],
) -> Floats:
    """A random square of a photograph, mirrored half of the time and resized: (size, size, 3).

    `sides` bounds the square's side in the photograph's pixels; `region` is a key of `REGIONS`.
    """
    photograph = photographs[random.integers(len(photographs))]
    left, right = (round(share * photograph.width) for share in REGIONS[region])
    side = int(random.integers(sides[0], min(sides[1], right - left, photograph.height) + 1))
    x = int(random.integers(left, right - side + 1))
    y = int(random.integers(0, photograph.height - side + 1))
    piece = photograph.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
    if random.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(piece, dtype=np.float32) / np.float32(255)


def luminance(picture: Floats) -> Floats:
    """Brightness in [0, 1] as the eye weighs colours; drops the last axis."""
    return picture @ _LUMA
