"""`micl-bench show` of records: cost, training, robustness, ablations, segmented and detected scenes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micl_bench.cli.show._common import (
    Picture,
    Results,
    drawing,
    selected,
    write_drawing,
    write_found,
)
from micl_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from micl_bench.report.figures.cost_points import Axis


def cost(
    out: Picture,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with records, at any depth; repeatable. Without it, published points alone.",
            show_default=False,
        ),
    ] = None,
    x: Annotated[str, typer.Option("--x", help="Cost: device-hours or epochs.")] = "device-hours",
    published: Annotated[
        bool, typer.Option(help="Draw published numbers, hollow, beside the measured ones.")
    ] = True,
) -> None:
    """Draw accuracy against the cost of pre-training.

    It shows the Pareto front; measured points have 95 % intervals. Hours of different hardware never
    share a panel. Published points stand beside the same public set, architecture and input size only.
    """
    axis = _axis(x)
    if not results and not published:
        raise InputError("--no-published needs --results, a folder with records to draw instead")
    with drawing():
        from micl_bench.records.published import read_references
        from micl_bench.report.figures.cost_plot import cost_drawing, found_cost
        from micl_bench.report.figures.cost_points import published_panels
    references = read_references() if published else []
    if results:
        found = found_cost(selected(results), references, axis)
        write_found(found, out, name="cost", nothing="")
        return
    write_drawing(cost_drawing(published_panels(references, axis), axis), out, name="cost")


def training(results: Results, out: Picture) -> None:
    """Draw loss and k-NN accuracy over the steps of pre-training."""
    with drawing():
        from micl_bench.report.figures.training_plot import found_training
    found = found_training(selected(results))
    write_found(found, out, name="training", nothing=_nothing(results, "pretrain"))


def robustness(results: Results, out: Picture) -> None:
    """Draw top-1 on shifted sets against top-1 on clean images.

    There is a panel per shifted set. Where three checkpoints or more were measured on a set, a line is
    fitted through them in logits; the printed table has each checkpoint's distance from the line, its
    effective robustness (Taori et al. 2020).
    """
    with drawing():
        from micl_bench.report.figures.robustness_plot import found_robustness
    write_found(
        found_robustness(selected(results)),
        out,
        name="robustness",
        nothing=f"no record below {_places(results)} has both clean and shifted top-1; `micl-bench eval "
        "robustness` writes them",
    )


def ablation(
    results: Results,
    out: Picture,
    axis: Annotated[
        str,
        typer.Option(
            help="mask-ratio, views, similarity, kappa, temperature, negatives, batch or epochs.",
            show_default=False,
        ),
    ],
) -> None:
    """Draw scores along one setting of pre-training.

    All other settings are equal, but for seeds: points are means over seeds, with 95 % intervals.
    """
    with drawing():
        from micl_bench.report.figures.ablation_plot import AXES, ablation_drawing, ablation_panels
    if axis not in AXES:
        raise InputError(f"--axis is {axis!r}; allowed: {', '.join(AXES)}")
    panels = ablation_panels(selected(results)).get(axis)
    if not panels:
        raise InputError(
            f"no two pre-trainings behind the records below {_places(results)} differ in {axis} alone; "
            "records of checkpoints that were made elsewhere say nothing of their pre-training"
        )
    write_drawing(ablation_drawing(axis, panels), out, name="ablation")


def segmentation(results: Results, out: Picture) -> None:
    """Draw segmented scenes beside the truth.

    Shown are MiCL, and the best other method on the same images.
    """
    _gallery("segmentation", results, out)


def detection(results: Results, out: Picture) -> None:
    """Draw detected objects beside the truth.

    Shown are MiCL, and the best other method on the same images.
    """
    _gallery("detection", results, out)


def _gallery(name: str, results: list[Path], out: Path) -> None:
    with drawing():
        from micl_bench.report.figures.galleries import found_gallery
    nothing = (
        f"no picture below {_places(results)}: no record names {name} pictures; give records that do, "
        "with the files beside them."
    )
    found = found_gallery(name, selected(results))
    write_found(found, out, name=name, nothing=nothing)


def _axis(x: str) -> "Axis":
    from micl_bench.report.figures.cost_points import AXES

    for axis in AXES:
        if axis == x:
            return axis
    raise InputError(f"--x is {x!r}; allowed: {', '.join(AXES)}")


def _nothing(results: list[Path], task: str) -> str:
    return f"no picture below {_places(results)}: a record of {task} with its files is needed."


def _places(results: list[Path]) -> str:
    return ", ".join(map(str, results))
