"""Images and label masks of semantic segmentation, file by file: whether each is there, can be read,
and has the size of the other.

`doctor` and `eval ade20k` ask the same questions here; what the masks' numbers mean is `dense_checks`'.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from micl_bench.data.dense_checks import MASK_MODES
from micl_bench.data.faults import Fault, first
from micl_bench.data.headers import Header, OnRead, in_threads, read_header
from micl_bench.runtime.wording import counted

Pair = tuple[Path, Path]
"""An image and its mask."""

_AGAIN = "copy or unpack them again"
_TURN = (
    "save the images with their pixels turned and without the tag, or, where masks are of the pixels as "
    "stored, read them so: color_type='color_ignore_orientation' in LoadImageFromFile"
)


def read_pairs(
    pairs: Sequence[Pair], *, decode: bool = False, on_pair: OnRead | None = None
) -> list[tuple[Header, Header]]:
    """The headers of images and masks; `on_pair` is called after each two."""

    def both(pair: Pair) -> tuple[Header, Header]:
        return read_header(pair[0], decode=decode), read_header(pair[1], decode=decode)

    return in_threads(both, pairs, on_read=on_pair)


def check_pairs(
    pairs: Sequence[Pair], headers: Sequence[tuple[Header, Header]], *, as_stored: bool = False
) -> Iterator[Fault]:
    """Damage, masks that are none, sizes that differ, and images that EXIF turns away from their masks.

    Args:
        as_stored: the reader of images does not heed EXIF's orientation.
    """
    broken, coloured, turned, resized = [], [], [], []
    for (image_file, mask_file), (image, mask) in zip(pairs, headers, strict=True):
        broken += [
            (file, f"{file.name} ({header.error})")
            for file, header in ((image_file, image), (mask_file, mask))
            if header.error
        ]
        if image.error or mask.error:
            continue
        if mask.mode not in MASK_MODES:
            coloured.append(f"{mask_file.name} (mode {mask.mode})")
        size, stored = (mask.width, mask.height), (image.width, image.height)
        # Of a mask that fits the turned image alone, that image was labelled.
        if image.orientation > 1 and not as_stored and not image.shown == size != stored:
            turned.append(f"{image_file.name} (orientation {image.orientation})")
        elif size != (stored if as_stored else image.shown):
            resized.append(f"{mask_file.name} is {mask.size}, its image is {image.size}")
    if broken:
        names = first([name for _, name in broken])
        where = f"the first is in {broken[0][0].parent}"
        found = counted(len(broken), "file cannot", "files cannot")
        yield Fault(f"{found} be read: {names}; {where}", _AGAIN)
    if coloured:
        found = counted(len(coloured), "mask is no 8-bit image", "masks are no 8-bit images")
        yield Fault(
            f"{found} of one channel: {first(coloured)}; they are pictures for display, or have more "
            "classes than 8 bits can number",
            "give masks whose pixels are the numbers of classes",
        )
    if turned:
        found = counted(len(turned), "image is", "images are")
        yield Fault(
            f"{found} turned by EXIF when read, while the masks are not: {first(turned)}",
            _TURN,
        )
    if resized:
        found = counted(len(resized), "mask has", "masks have")
        yield Fault(
            f"{found} another size than the image: {first(resized)}",
            "give each mask its image's size: mIoU on scaled masks is another number",
        )


def readable(pairs: Sequence[Pair], headers: Sequence[tuple[Header, Header]]) -> list[Path]:
    """The masks whose numbers can be looked at."""
    return [
        file
        for (_, file), (_, mask) in zip(pairs, headers, strict=True)
        if mask.mode in MASK_MODES and not mask.error
    ]
