"""Label masks of semantic segmentation: whether their numbers mean what training takes them for.

Masks are 8-bit, one channel. With `reduce_zero_label` (ADE20K as released) 0 is "other", which counts
nowhere, and class k is k + 1; without it class k is k, and 255 counts nowhere.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VOID = 255
MASK_MODES = ("L", "P")
"""PIL's names of 8-bit images with one channel: plain, and with colours for display."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """What some masks hold."""

    pixels_256: NDArray[np.int64]
    """Pixels of each number, over all masks."""
    masks: int

    def present(self) -> set[int]:
        """Numbers that occur."""
        return set(np.flatnonzero(self.pixels_256).tolist())


def histogram(mask: Path) -> NDArray[np.int64]:
    """Pixels of each number in one mask, (256,).

    Raises:
        ValueError: it has other than one 8-bit channel.
        OSError: it cannot be read.
    """
    with Image.open(mask) as image:
        if image.mode not in MASK_MODES:
            raise ValueError(
                f"{mask} is an image of mode {image.mode}, no 8-bit mask of one channel"
            )
        return np.asarray(image.histogram(), dtype=np.int64)


def add_labels(histograms: Iterable[NDArray[np.int64]]) -> Labels:
    """Of several masks together."""
    rows = list(histograms)
    return Labels(pixels_256=np.sum(rows, axis=0, dtype=np.int64).reshape(-1), masks=len(rows))


def label_fault(
    labels: Labels, *, num_classes: int, reduce_zero_label: bool, has_void: bool = False
) -> str:
    """What is wrong with the numbers, in a few words; empty where nothing is.

    With `reduce_zero_label` a 255 beside no `num_classes` counts as a shift that was already made, as
    ADE20K has none, but not in a set that `has_void`, where 255 may be of no class as well. Every
    found fault is certain, but a few masks need not show one that is there.
    """
    present = labels.present()
    highest = num_classes if reduce_zero_label else num_classes - 1
    outside = sorted(present - set(range(highest + 1)) - {VOID})
    shifted = VOID in present and num_classes not in present
    if reduce_zero_label and shifted and not has_void:
        return (
            f"labels 0 to {num_classes - 1} and 255: 1 was subtracted already, and loading would "
            "subtract it again"
        )
    if outside == [highest + 1] and 0 not in present:
        return f"labels 1 to {highest + 1}, not 0 to {highest}: 1 was added"
    if outside == [num_classes] and not reduce_zero_label:
        return f"labels 0 to {num_classes}, for {num_classes} classes: reduce_zero_label is missing"
    if outside:
        shown = ", ".join(map(str, outside[:3])) + (", ..." if outside[3:] else "")
        words = "label {} is" if len(outside) == 1 else "labels {} are"
        return f"{words.format(shown)} above {highest}, the last of {num_classes} classes"
    return ""
