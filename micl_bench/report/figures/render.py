"""Drawings, kinds of pictures, and their bytes as PNG, PDF or SVG."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from micl_bench.report.figures.palette import STYLE
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.npz import Arrays

# No date, no software version, no random names inside: equal pictures are equal bytes.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}
_SAVED: dict[Any, Any] = {
    "svg.hashsalt": "micl-bench",
    # TrueType: journals and conferences refuse Type 3, which is what matplotlib writes otherwise.
    "pdf.fonttype": 42,
}
_PAD_INCHES = 0.06
_MOST_SENTENCES = 3
_MOST_COLOURS = 1024
"""A chart has a few flat colours and their blends; a picture of more has photographs in it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure of a report or a command, not drawn yet."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    table: list[list[str]] = dataclasses.field(default_factory=list)
    """Shown under it, the header first; empty where the picture says all."""


@dataclasses.dataclass(kw_only=True)
class Found:
    """The drawings that records allow, and a sentence on each that they do not."""

    drawings: list[Drawing] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """The first few of these sentences, and the number of the others."""
        more = len(self.left_out) - _MOST_SENTENCES
        rest = [f"So are {more} more, for like reasons."] if more > 0 else []
        return [*self.left_out[:_MOST_SENTENCES], *rest]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureKind:
    """A kind of picture: the functions that load and draw an artefact of one or several methods."""

    title: str
    load: Callable[[Path], Arrays]
    """Raises an InputError for a file that cannot be drawn."""
    draw: Callable[[dict[str, Arrays]], Figure]
    """Draws the arrays by method."""
    caption: Callable[[dict[str, Arrays]], str]
    shared: tuple[str, ...]
    """Arrays that methods must have in common to stand side by side."""
    abreast: int = 2
    """Methods in one picture."""


def rendered(draw: Callable[[], Figure], kinds: Sequence[str]) -> list[bytes]:
    """Draw once under the report's style and return the bytes of each of `kinds`: png, pdf or svg.

    Raises:
        ValueError: another kind.
    """
    with matplotlib.rc_context({**STYLE, **_SAVED}):
        figure = draw()
        if layout := figure.get_layout_engine():
            # Found once, not again for each kind and for the edge of the page.
            layout.execute(figure)
            figure.set_layout_engine(None)
        page = figure.get_tightbbox().padded(_PAD_INCHES)
        return [_bytes(figure, page, kind) for kind in kinds]


def save_picture(path: Path, draw: Callable[[], Figure]) -> None:
    """Draw under the report's style and save; `path` ends in .png, .pdf or .svg."""
    (content,) = rendered(draw, [path.suffix.lower().removeprefix(".")])
    atomic_write(path, content)


def _bytes(figure: Figure, page: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    # `_smaller` writes a PNG again: it need not be small yet.
    quick: dict[str, Any] = {"pil_kwargs": {"compress_level": 0}} if kind == "png" else {}
    figure.savefig(buffer, format=kind, bbox_inches=page, metadata=_METADATA[kind], **quick)
    return _smaller(buffer) if kind == "png" else buffer.getvalue()


def _smaller(png: io.BytesIO) -> bytes:
    """Return a chart in 256 colours, with half the bytes and the same look; photographs keep theirs."""
    with Image.open(png) as image:
        colours = image.convert("RGB")
    if colours.getcolors(_MOST_COLOURS) is not None:
        colours = colours.quantize(256, method=Image.Quantize.MEDIANCUT)
    buffer = io.BytesIO()
    dpi = float(STYLE["figure.dpi"])
    colours.save(buffer, "png", dpi=(dpi, dpi))
    return buffer.getvalue()
