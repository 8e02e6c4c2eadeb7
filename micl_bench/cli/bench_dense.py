"""`micl-bench bench dense`: speed and memory of segmentation and detection."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from micl_bench.cli.options import Json, Overrides


def dense(
    recipe: Annotated[
        Path | None,
        typer.Option(help="Measure one training iteration of this config instead of a backbone."),
    ] = None,
    overrides: Overrides = None,
    arch: Annotated[
        str, typer.Option(help="Of the backbone, as `micl-bench list architectures` names them.")
    ] = "vit_base_patch16_224",
    size: Annotated[int, typer.Option(help="Pixels of a side of the backbone's images.")] = 1024,
    batch: Annotated[
        int, typer.Option(help="Images of a pass; 0 for one, or for as many as the recipe says.")
    ] = 0,
    rounds: Annotated[int, typer.Option(help="Rounds; medians are told.")] = 3,
    json_file: Json = None,
) -> None:
    """Measure a ViT on the large images of segmentation and detection: speed and peak memory.

    Without --recipe: the backbone forward and backward, all blocks attending to everything (plain) or
    most of them in windows of 14 x 14 patches (windowed), with and without computing blocks twice to
    save memory (checkpointed), in fp32 and bf16. With --recipe: its model, optimiser and batch, with
    images in memory.
    """
    from micl_bench.bench.output import machine_load, write_figures
    from micl_bench.bench.step import this_device

    device, load = this_device(), machine_load()
    if recipe:
        results = [_iteration(recipe, overrides or [], batch, rounds)]
        settings: dict[str, Any] = {"recipe": recipe.name, "overrides": overrides or []}
        settings["rounds"] = rounds
    else:
        results, settings = _backbone(arch, size, batch or 1, rounds)
    if json_file:
        write_figures(
            json_file,
            benchmark="dense",
            results=results,
            settings=settings | {"device": str(device)},
            load=load,
        )


def _backbone(
    arch: str, size: int, batch: int, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from micl_bench.bench.dense import DenseSettings, bench_dense
    from micl_bench.bench.step import this_device
    from micl_bench.runtime.terminal import table_text

    settings = DenseSettings(arch=arch, size=size, batch=batch, rounds=rounds)
    results = bench_dense(settings, this_device())
    plain = results[0]
    rows = [
        (result["name"], result["error"], "", "", "", "")
        if "error" in result
        else (
            result["name"],
            f"{result['images_per_second']:,.3g}",
            f"{result['images_per_second'] / plain['images_per_second']:.2f}",
            f"{result['peak_memory_mib']:,}",
            f"{result['peak_memory_mib'] / plain['peak_memory_mib']:.2f}",
            result["attention"],
        )
        for result in results
    ]
    header = ("name", "images/s", "x plain", "peak [MiB]", "x plain", "attention")
    print(f"{arch} on {this_device()}, {batch} x {size} x {size}, forward and backward")
    print(table_text(header, rows))
    return results, dataclasses.asdict(settings)


def _iteration(recipe: Path, overrides: list[str], batch: int, rounds: int) -> dict[str, Any]:
    from micl_bench.bench.iteration import bench_recipe
    from micl_bench.bench.step import this_device

    found = bench_recipe(recipe, this_device(), overrides=overrides, batch=batch, rounds=rounds)
    print(
        f"{recipe.name} on {this_device()}, {found['batch']} x {found['height']} x {found['width']}"
    )
    print(f"{found['images_per_second']:,.3g} images/s in training, data in memory")
    print(
        f"{found['peak_memory_mib']:,} MiB at the peak; estimated: {found['estimated_memory_mib']:,}"
    )
    return found
