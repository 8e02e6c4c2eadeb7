"""Checks of images and label masks of semantic segmentation, for `doctor` and `eval ade20k`.

Each is there, whole, of the other's size, and masks' numbers have the meaning that training expects.

Masks are 8-bit, one channel. With `reduce_zero_label` (ADE20K as released) 0 is "other", which counts
nowhere, and class k is k + 1; without it class k is k, and 255 counts nowhere.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from micl_bench.data.faults import Fault, first
from micl_bench.data.headers import Header, in_threads, read_header
from micl_bench.runtime.wording import counted

VOID = 255
_MASK_MODES = ("L", "P")
"""PIL's names of 8-bit images with one channel: plain, and with colours for display."""

Sized = tuple[str, Header, tuple[int, int]]
"""An image's name, its header, and the width and height that its truth was made for."""


def other_sizes(images: Iterable[Sized], *, as_stored: bool) -> tuple[list[Sized], list[Sized]]:
    """Return images that EXIF turns away from their truth, and those of another size than it.

    Args:
        as_stored: the reader of images does not heed EXIF's orientation.
    """
    turned, resized = [], []
    for one in images:
        _, header, size = one
        stored = header.width, header.height
        # A truth that fits the turned image alone was made for it.
        if header.orientation > 1 and not as_stored and not header.shown == size != stored:
            turned.append(one)
        elif size != (stored if as_stored else header.shown):
            resized.append(one)
    return turned, resized


def turned_fault(turned: Sequence[Sized], truth: str, *, where: str = "") -> Fault:
    """Return the fault of images that EXIF turns away from their `truth`, masks or annotations."""
    names = first([f"{name} (orientation {header.orientation})" for name, header, _ in turned])
    found = counted(len(turned), "image is", "images are")
    return Fault(
        f"{where}{found} turned by EXIF when read, while the {truth} are not: {names}",
        f"save the images with their pixels turned and without the tag, or, where the {truth} are of "
        "the pixels as stored, read them so: color_type='color_ignore_orientation' in "
        "LoadImageFromFile",
    )


def check_pairs(
    pairs: Sequence[tuple[Path, Path]],
    *,
    decode: bool = False,
    as_stored: bool = False,
    on_read: Callable[[], None] | None = None,
) -> Iterator[Fault]:
    """Report damage, masks that are none, sizes that differ, and images that EXIF turns away.

    Args:
        pairs: an image and its mask.
        decode: every pixel, so that damage anywhere is found.
        as_stored: the reader of images does not heed EXIF's orientation.
        on_read: called after each pair.
    """

    def headers(pair: tuple[Path, Path]) -> tuple[Header, Header]:
        return read_header(pair[0], decode=decode), read_header(pair[1], decode=decode)

    read = list(zip(pairs, in_threads(headers, pairs, on_read=on_read), strict=True))
    files = [one for files, both in read for one in zip(files, both, strict=True)]
    if broken := [(file, f"{file.name} ({one.error})") for file, one in files if one.error]:
        found = counted(len(broken), "file cannot", "files cannot")
        yield Fault(
            f"{found} be read: {first([name for _, name in broken])}; the first is in "
            f"{broken[0][0].parent}",
            "copy or unpack them again",
        )
    whole = [(files, both) for files, both in read if not (both[0].error or both[1].error)]
    coloured = [
        f"{file.name} (mode {mask.mode})"
        for (_, file), (_, mask) in whole
        if mask.mode not in _MASK_MODES
    ]
    if coloured:
        found = counted(len(coloured), "mask is no 8-bit image", "masks are no 8-bit images")
        yield Fault(
            f"{found} of one channel: {first(coloured)}; they are pictures for display, or have more "
            "classes than 8 bits can number",
            "give masks whose pixels are the numbers of classes",
        )
    masks = {file.name: mask_file.name for (file, mask_file), _ in whole}
    sized = [(file.name, image, (mask.width, mask.height)) for (file, _), (image, mask) in whole]
    turned, resized = other_sizes(sized, as_stored=as_stored)
    if turned:
        yield turned_fault(turned, "masks")
    if resized:
        found = counted(len(resized), "mask has", "masks have")
        examples = [
            f"{masks[name]} is {size[0]} x {size[1]}, its image is {image.size}"
            for name, image, size in resized
        ]
        yield Fault(
            f"{found} another size than the image: {first(examples)}",
            "give each mask its image's size: mIoU on scaled masks is another number",
        )


def labels_in(mask: Path) -> set[int]:
    """Return the numbers that pixels of a mask have.

    Raises:
        ValueError: the mask has other than one 8-bit channel.
        OSError: the mask cannot be read.
    """
    with Image.open(mask) as image:
        if image.mode not in _MASK_MODES:
            raise ValueError(
                f"{mask} is an image of mode {image.mode}, no 8-bit mask of one channel"
            )
        return set(np.flatnonzero(image.histogram()).tolist())


def label_fault(
    present: set[int], *, num_classes: int, reduce_zero_label: bool, has_void: bool = False
) -> str:
    """Return the fault of the numbers in some masks, in a few words; empty for none.

    With `reduce_zero_label` a 255 beside no `num_classes` counts as a shift that was already made, as
    ADE20K has none, but not in a set that `has_void`, where 255 may be of no class as well. Every
    found fault is certain, but a few masks need not show one that is there.
    """
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
        words = "label {} is" if len(outside) == 1 else "labels {} are"
        shown = first(list(map(str, outside)))
        return f"{words.format(shown)} above {highest}, the last of {num_classes} classes"
    return ""
