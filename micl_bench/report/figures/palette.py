"""Colours that colour-blind readers can tell apart, the same for a well-known method in all figures.

Okabe and Ito's palette, jfly.uni-koeln.de/color. Classes beyond its size go round the hues.
"""

import colorsys
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.report.frame.naming import OURS, method_rank

PAGE_INCHES = 7.0
"""Width of a page's text in print: figures are printed as large as they are drawn."""
SMALL = 7.0
"""Points of the smallest letters; smaller ones are hard to read in print."""
_PIXELS_PER_INCH = 200
INK, FAINT = "#222222", "#8a8a8a"
HIDDEN_GREY = 205
"""Grey level of hidden patches and ignored pixels."""
LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue, ITU-R BT.601."""

_RIVALS = {
    "MAE": "#D55E00",
    "DINO": "#009E73",
    "MoCo v3": "#56B4E9",
    "iBOT": "#CC79A7",
    "DINOv2": "#6B4C9A",
    "I-JEPA": "#B8A600",
}
_METHODS = {OURS: "#0072B2", "from scratch": "#E69F00", "random weights": "#A6A6A6", **_RIVALS}
MARKERS = "os^DvPX*<>"
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.5, 1.5, 1.5)))
HATCHES = ("", "////", "....", "xxxx", "----", "++++", "oooo", "||||")
"""Used by turns: shapes differ where colours look alike."""
_CLASSES = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#6B4C9A"),
    *("#8C564B", "#117733", "#AA4499", "#88CCEE", "#332288", "#999933", "#882255", "#44AA99"),
)

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    # On the axes: no figure has ticks above that a title would have to avoid.
    "axes.titley": 1.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    # A `$` in a name is a `$`, not the start of a formula.
    "text.parse_math": False,
    # At this many pixels letters need no grid, and fitting them to it takes a tenth of the time.
    "text.hinting": "none",
    "text.hinting_factor": 1,
    "figure.dpi": _PIXELS_PER_INCH,
    "figure.facecolor": "white",
}
"""Matplotlib settings that every figure is drawn and saved under."""


def method_colours(methods: set[str]) -> dict[str, str]:
    """Return a colour for each method; well-known ones always have the same, others the free ones."""
    others = sorted(methods - _METHODS.keys(), key=method_rank)
    free = [colour for name, colour in _RIVALS.items() if name not in methods]
    return {
        **_METHODS,
        **dict(zip(others, itertools.cycle(free or _RIVALS.values()), strict=False)),
    }


def class_colours(number: int) -> NDArray[np.uint8]:
    """Return RGB bytes for each of a number of classes, (number, 3)."""
    named = [tuple(bytes.fromhex(colour[1:])) for colour in _CLASSES[:number]]
    # The golden ratio keeps neighbouring hues apart for any number of classes.
    further = [
        colorsys.hsv_to_rgb(turn * 0.618034 % 1, 0.65, 0.55 + 0.2 * (turn % 3))
        for turn in range(number - len(named))
    ]
    colours = [*named, *(tuple(255 * part for part in colour) for colour in further)]
    return np.array(colours).reshape(-1, 3).astype(np.uint8)


def is_light(colour: NDArray[np.uint8]) -> bool:
    """Return whether dark text reads better on a colour."""
    return float(colour @ LUMA) > 150
