"""Image files of a folder, opened as `eval` opens them before it computes: damage, and how they lie."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from micl_bench.data.image_files import Listing, shown_name
from micl_bench.doctor._finding import Finding, problem, reason, warning
from micl_bench.runtime.wording import counted, plural

_SHOWN = 3


def check_images(subject: str, listings: Sequence[Listing]) -> Iterator[Finding]:
    """Headers of the listed images, of many as many as `eval` opens, evenly spaced."""
    try:
        from micl_bench.data.checked import MOST_HEADERS, open_images
        from micl_bench.data.headers import spread
    except ImportError as error:  # the packages' own finding names the fix
        yield warning(subject, f"images are not opened: {reason(error)}", "mend torch and Pillow")
        return
    paths = [path for listing in listings for path in _paths(listing)]
    looked_at = spread(paths, MOST_HEADERS)
    headers, unreadable = open_images(looked_at)
    of = counted(len(looked_at), "image") + (" looked at" if len(looked_at) < len(paths) else "")
    if unreadable:
        texts = [text.rpartition("; ") for _, text in unreadable]
        found = "; ".join(text for text, _, _ in texts[:_SHOWN])
        more = f"; and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
        yield problem(subject, f"{len(texts):,} of {of} cannot be read: {found}{more}", texts[0][2])
    turned = [
        path for path, header in zip(looked_at, headers, strict=True) if header.orientation > 1
    ]
    if turned:
        are = plural(len(turned), "is", "are")
        yield warning(
            subject,
            f"{len(turned):,} of {of} {are} turned or mirrored by EXIF's orientation when they are "
            f"viewed ({shown_name(turned[0].name)}{', ...' if turned[1:] else ''}), and read as they "
            "are stored, as torchvision's ImageFolder does",
            "to have them read as they are viewed, turn the pixels themselves and drop the tag",
        )


def _paths(listing: Listing) -> Iterator[Path]:
    """Every image but those that are listed as faults already."""
    known = {fault.path for fault in listing.faults}
    for name, images in listing.classes.items():
        for image in images:
            path = listing.root / name / image
            if str(path) not in known:
                yield path
