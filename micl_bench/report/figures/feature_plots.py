"""Features on a plane by class, and how similar views are: plots of what a network makes of images.

Shapes: N images, B bins, E = B + 1 edges.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from micl_bench.report.compare.artefact_files import Arrays, check_numbers, check_range, load_arrays
from micl_bench.report.figures.palette import MARKERS, PAGE_INCHES, class_colours
from micl_bench.runtime.errors import InputError

_SIMILARITIES = {"cosine": "cosine", "tsp": "T-SP similarity"}
_LONGEST_NAME = 22
_LETTERS_PER_INCH, _LETTERS_OF_A_HANDLE = 17, 9
_POSITIVE, _NEGATIVE = "#0072B2", "#D55E00"


def load_map(path: Path) -> Arrays:
    """The arrays of `feature_maps`, checked."""
    arrays = load_arrays(path, ["places_N2", "label_N", "classes", "perplexity"])
    check_numbers(path, arrays, "perplexity")
    check_range(path, arrays, "label_N", below=len(arrays["classes"]))
    if not len(arrays["places_N2"]) or not np.isfinite(arrays["places_N2"]).all():
        raise InputError(f"{path}: places_N2 must hold finite numbers")
    return arrays


def load_similarities(path: Path) -> Arrays:
    """The arrays of `similarity_histograms`, checked."""
    names = [
        f"{kind}_{part}"
        for kind in _SIMILARITIES
        for part in ("edges_E", "positive_B", "negative_B", "means")
    ]
    arrays = load_arrays(path, [*names, "kappa", "images", "views"])
    check_numbers(path, arrays, "kappa", "images", "views")
    for kind in _SIMILARITIES:
        edges = arrays[f"{kind}_edges_E"]
        counts = [arrays[f"{kind}_{sign}_B"] for sign in ("positive", "negative")]
        rises = len(edges) > 1 and np.isfinite(edges).all() and (np.diff(edges) > 0).all()
        fits = all(len(count) == len(edges) - 1 and count.min() >= 0 for count in counts)
        if not (rises and fits and arrays[f"{kind}_means"].shape == (2,)):
            raise InputError(f"{path}: the bins of {kind} are damaged")
    return arrays


def feature_maps(maps: dict[str, Arrays]) -> Figure:
    """A plane for each method: an image a point, coloured, shaped and named by its class."""
    columns = len(maps)
    width = PAGE_INCHES if columns > 1 else 0.7 * PAGE_INCHES
    height = 0.85 * width / columns + 0.3
    figure = Figure(figsize=(width, height), layout="constrained")
    for axes, (method, arrays) in zip(
        figure.subplots(1, columns, squeeze=False)[0], maps.items(), strict=True
    ):
        axes.set_title(method)
        _draw_map(axes, arrays)
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if any(handles):
        longest = max(map(len, handles))
        room = int(_LETTERS_PER_INCH * width / (_LETTERS_OF_A_HANDLE + longest))
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower left", ncols=max(1, room)
        )
    return figure


def map_caption(maps: dict[str, Arrays]) -> str:
    """How the places came to be."""
    first = next(iter(maps.values()))
    return (
        f"t-SNE of {len(first['label_N']):,} images' features (unit length, perplexity "
        f"{float(first['perplexity']):.3g}, started at their principal components): near points are "
        "similar images; distances between groups and axes mean nothing."
    )


def _draw_map(axes: Axes, arrays: Arrays) -> None:
    places, label = arrays["places_N2"], arrays["label_N"]
    classes = [str(name) for name in arrays["classes"]]
    colours = class_colours(len(classes)) / 255
    size = float(np.clip(4000 / len(places), 4, 20))
    for index in range(len(classes)):
        own = places[label == index]
        marker = MARKERS[index % len(MARKERS)]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=size,
            marker=marker,
            color=colours[index],
            linewidths=0.3,
            edgecolors="white",
            label=_short(classes[index]),
        )
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(visible=False)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def similarity_histograms(found: dict[str, Arrays]) -> Figure:
    """Cosine and T-SP similarities of views of one image and of different ones, a row a method."""
    figure = Figure(figsize=(PAGE_INCHES, 0.5 + 1.75 * len(found)), layout="constrained")
    # What stands above each other has one scale, so that histograms can be compared.
    grid = figure.subplots(len(found), 2, squeeze=False, sharex="col")
    for row, (method, arrays) in zip(grid, found.items(), strict=True):
        for axes, (kind, words) in zip(row, _SIMILARITIES.items(), strict=True):
            _draw_similarities(axes, arrays, kind)
            axes.set(xlabel=words, yticks=[])
            axes.grid(visible=False, axis="y")
        row[0].set_title(method)
        row[0].set_ylabel("share of pairs")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def similarity_caption(found: dict[str, Arrays]) -> str:
    """Which pairs, and their means."""
    first = next(iter(found.values()))
    means = "; ".join(
        (f"{method} " if len(found) > 1 else "")
        + "{:.3f} and {:.3f}".format(*arrays["cosine_means"])
        for method, arrays in found.items()
    )
    return (
        f"Similarities of masked views of {int(first['images']):,} images, {int(first['views'])} views "
        "of each, as pre-training contrasts them; each histogram is scaled to its own peak. Vertical "
        "lines are means. T-SP similarity with kappa "
        f"{float(first['kappa']):.4g}. Mean cosine of positives and of negatives: {means}."
    )


def _draw_similarities(axes: Axes, arrays: Arrays, kind: str) -> None:
    edges = arrays[f"{kind}_edges_E"]
    signs = (
        ("positive", "views of one image", _POSITIVE, "-", "////"),
        ("negative", "views of different images", _NEGATIVE, "--", ""),
    )
    for turn, (sign, words, colour, line, hatch) in enumerate(signs):
        share = _of_peak(arrays[f"{kind}_{sign}_B"])
        axes.stairs(
            share,
            edges,
            fill=True,
            facecolor=f"{colour}33",
            edgecolor=f"{colour}88",
            linewidth=0,
            hatch=hatch,
        )
        axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.2, label=words)
        mean = float(arrays[f"{kind}_means"][turn])
        axes.axvline(mean, color=colour, linestyle=line, linewidth=0.9)
    axes.set_ylim(0, 1.08)


def _of_peak(counts_B: NDArray[np.integer]) -> NDArray[np.float64]:
    return counts_B / max(int(counts_B.max()), 1)
