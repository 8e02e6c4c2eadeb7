"""`micl-bench bench` of evaluations: the k-NN search, and dense tasks."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from micl_bench.cli.bench._figures import write
from micl_bench.cli.options import Json, Overrides


def knn(
    train: Annotated[int, typer.Option(help="Number of features that are searched.")] = 1_281_167,
    width: Annotated[int, typer.Option(help="Numbers per feature.")] = 1024,
    queries: Annotated[
        int, typer.Option(help="Number of queries whose time is reported.")
    ] = 50_000,
    measured: Annotated[
        int,
        typer.Option(help="Number of queries that are measured; the time of all is extrapolated."),
    ] = 2048,
    k: Annotated[int, typer.Option(help="Neighbours per query.")] = 200,
    memory_mib: Annotated[
        int, typer.Option(help="Memory that the search may take, in MiB.")
    ] = 2048,
    rounds: Annotated[int, typer.Option(help="Number of rounds, whose medians are reported.")] = 3,
    json_file: Json = None,
) -> None:
    """Measure the time and memory of the exact k-NN search.

    The features are synthetic and lie in a file, which takes train x width x 4 bytes in TMPDIR.
    """
    from micl_bench.bench.knn import KnnSettings, bench_knn
    from micl_bench.bench.machine import machine_load, this_device
    from micl_bench.runtime.terminal import table_text

    settings = KnnSettings(
        train=train,
        width=width,
        queries=queries,
        measured=measured,
        k=k,
        rounds=rounds,
        memory_mib=memory_mib,
    )
    device, load = this_device(), machine_load()
    found = bench_knn(settings, device)
    rows = [
        (f"{measured // 2:,} queries, measured", f"{found['seconds_half']:,.1f}", "", ""),
        (
            f"{measured:,} queries, measured",
            f"{found['seconds_measured']:,.1f}",
            f"{found['processor_seconds_measured']:,.1f}",
            f"{found['peak_mib']:,.0f}, the program itself included",
        ),
        (
            f"{queries:,} queries, extrapolated",
            f"{found['seconds_extrapolated']:,.0f}",
            f"{found['processor_seconds_extrapolated']:,.0f}",
            f"{found['planned_mib_of_all']:,.0f} planned",
        ),
    ]
    print(f"{train:,} x {width} features, k = {k}, on {device}")
    print(f"{found['flop_per_second'] / 1e9:,.0f} GFLOP/s")
    print(table_text(("search", "seconds", "of a core", "memory [MiB]"), rows))
    write(json_file, "knn", [found], dataclasses.asdict(settings) | {"device": str(device)}, load)


def dense(
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Config by name or path: measure one training iteration of it, not a backbone."
        ),
    ] = None,
    overrides: Overrides = None,
    arch: Annotated[
        str,
        typer.Option(
            help="Architecture of the backbone: a name of `micl-bench list architectures`."
        ),
    ] = "vit_base_patch16_224",
    size: Annotated[int, typer.Option(help="Side of the backbone's images in pixels.")] = 1024,
    batch: Annotated[
        int, typer.Option(help="Images per pass; 0 for 1, or for the recipe's number.")
    ] = 0,
    rounds: Annotated[int, typer.Option(help="Number of rounds, whose medians are reported.")] = 3,
    json_file: Json = None,
) -> None:
    """Measure a ViT on the large images of dense tasks.

    Speed and peak memory are measured. Without --recipe: the backbone forward and backward, with global
    attention in all blocks (plain) or in windows of 14 x 14 patches in most (windowed), with and without
    computing activations twice to save memory (checkpointed), in fp32 and bf16. With --recipe: a whole
    training iteration of its model, optimiser and batch, with images in memory.
    """
    from micl_bench.bench.machine import machine_load, this_device

    device, load = this_device(), machine_load()
    if recipe:
        results = [_iteration(recipe, overrides or [], batch, rounds)]
        settings: dict[str, Any] = {"recipe": recipe.name, "overrides": overrides or []}
        settings["rounds"] = rounds
    else:
        results, settings = _backbone(arch, size, batch or 1, rounds)
    write(json_file, "dense", results, settings | {"device": str(device)}, load)


def _backbone(
    arch: str, size: int, batch: int, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from micl_bench.bench.dense import DenseSettings, bench_dense
    from micl_bench.bench.machine import this_device
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
    from micl_bench.bench.machine import this_device

    found = bench_recipe(recipe, this_device(), overrides=overrides, batch=batch, rounds=rounds)
    print(
        f"{recipe.name} on {this_device()}, {found['batch']} x {found['height']} x {found['width']}"
    )
    print(f"{found['images_per_second']:,.3g} images/s in training, data in memory")
    print(
        f"{found['peak_memory_mib']:,} MiB at the peak; estimated: {found['estimated_memory_mib']:,}"
    )
    return found
