"""Plots of a network's features: images on a plane by class, and the similarity of views.

Shapes: N images, B bins, E = B + 1 edges.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from micl_bench.report.compare.artefact_files import Arrays, check_numbers, check_range, load_arrays
from micl_bench.report.figures.palette import MARKERS, PAGE_INCHES, class_colours
from micl_bench.report.figures.panels import add_legend
from micl_bench.report.figures.render import PictureKind
from micl_bench.runtime.errors import InputError

_SIMILARITIES = {"cosine": "cosine", "tsp": "T-SP similarity"}
_SIGNS = (
    ("positive", "views of one image", "#0072B2", "-", "////"),
    ("negative", "views of different images", "#D55E00", "--", ""),
)
"""Kinds of pairs of views: name among the arrays, words, colour, line, hatch."""


def _load_map(path: Path) -> Arrays:
    """Read and check features on a plane."""
    arrays = load_arrays(path, ["places_N2", "label_N", "classes", "perplexity"])
    check_numbers(path, arrays, "perplexity")
    check_range(path, arrays, "label_N", below=len(arrays["classes"]))
    if not len(arrays["places_N2"]) or not np.isfinite(arrays["places_N2"]).all():
        raise InputError(f"{path}: places_N2 must hold finite numbers")
    return arrays


def _load_similarities(path: Path) -> Arrays:
    """Read and check histograms of similarities."""
    parts = ("edges_E", "positive_B", "negative_B", "means")
    names = [f"{kind}_{part}" for kind in _SIMILARITIES for part in parts]
    arrays = load_arrays(path, [*names, "kappa", "images", "views"])
    check_numbers(path, arrays, "kappa", "images", "views")
    for kind in _SIMILARITIES:
        edges, *counts, means = (arrays[f"{kind}_{part}"] for part in parts)
        rises = len(edges) > 1 and np.isfinite(edges).all() and (np.diff(edges) > 0).all()
        fits = all(len(count) == len(edges) - 1 and count.min() >= 0 for count in counts)
        if not (rises and fits and means.shape == (2,)):
            raise InputError(f"{path}: the bins of {kind} are damaged")
    return arrays


def _draw_maps(maps: dict[str, Arrays]) -> Figure:
    """Draw a plane for each method, with a point per image in colour and shape of its class."""
    columns = len(maps)
    width = PAGE_INCHES if columns > 1 else 0.7 * PAGE_INCHES
    figure = Figure(figsize=(width, 0.85 * width / columns + 0.3), layout="constrained")
    grid = figure.subplots(1, columns, squeeze=False)[0]
    for axes, (method, arrays) in zip(grid, maps.items(), strict=True):
        places, label = arrays["places_N2"], arrays["label_N"]
        colours = class_colours(len(arrays["classes"])) / 255
        size = float(np.clip(4000 / len(places), 4, 20))
        for index, name in enumerate(arrays["classes"]):
            axes.scatter(
                *places[label == index].T,
                s=size,
                marker=MARKERS[index % len(MARKERS)],
                color=colours[index],
                linewidths=0.3,
                edgecolors="white",
                label=str(name),
            )
        axes.set(title=method, xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(visible=False)
    add_legend(figure, loc="outside lower left")
    return figure


def _map_caption(maps: dict[str, Arrays]) -> str:
    """Return words on the projection."""
    first = next(iter(maps.values()))
    return (
        f"t-SNE of {len(first['label_N']):,} images' features (unit length, perplexity "
        f"{float(first['perplexity']):.3g}, started at their principal components): near points are "
        "similar images; distances between groups and axes mean nothing."
    )


def _draw_histograms(found: dict[str, Arrays]) -> Figure:
    """Draw cosine and T-SP similarities of views of one image and of different ones, by method."""
    figure = Figure(figsize=(PAGE_INCHES, 0.5 + 1.75 * len(found)), layout="constrained")
    # Histograms above each other have one scale, so that they can be compared.
    grid = figure.subplots(len(found), 2, squeeze=False, sharex="col")
    for row, (method, arrays) in zip(grid, found.items(), strict=True):
        for axes, (kind, words) in zip(row, _SIMILARITIES.items(), strict=True):
            _draw_similarities(axes, arrays, kind)
            axes.set(xlabel=words, yticks=[], ylim=(0, 1.08))
            axes.grid(visible=False, axis="y")
        row[0].set(title=method, ylabel="share of pairs")
    add_legend(figure, loc="outside upper right")
    return figure


def _similarity_caption(found: dict[str, Arrays]) -> str:
    """Return words on the pairs, and their means."""
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
    for turn, (sign, words, colour, line, hatch) in enumerate(_SIGNS):
        counts = arrays[f"{kind}_{sign}_B"]
        share = counts / max(int(counts.max()), 1)
        faint: dict[str, Any] = {"facecolor": f"{colour}33", "edgecolor": f"{colour}88"}
        axes.stairs(share, edges, fill=True, linewidth=0, hatch=hatch, **faint)
        axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.2, label=words)
        mean = float(arrays[f"{kind}_means"][turn])
        axes.axvline(mean, color=colour, linestyle=line, linewidth=0.9)


FEATURES = PictureKind(
    title="Features on a plane",
    load=_load_map,
    draw=_draw_maps,
    caption=_map_caption,
    shared=("classes",),
)
SIMILARITY = PictureKind(
    title="Similarity of views",
    load=_load_similarities,
    draw=_draw_histograms,
    caption=_similarity_caption,
    shared=("views", "kappa"),
)
