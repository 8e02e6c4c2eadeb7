"""`micl-bench bench`: measured speed."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from micl_bench.cli.options import Json, Overrides

app = typer.Typer(
    help="Measure speed; figures that are compared come from one run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def loader(
    images: Annotated[
        int, typer.Option(help="Number of JPEG files of 500 x 375 pixels to read.")
    ] = 256,
    batch: Annotated[int, typer.Option(help="Images per batch.")] = 256,
    img_size: Annotated[int, typer.Option(help="Side of the network's input in pixels.")] = 224,
    patch_size: Annotated[int, typer.Option(help="Side of a patch in pixels.")] = 16,
    store_size: Annotated[
        int, typer.Option(help="Side in pixels of the stored images that are cropped.")
    ] = 256,
    mask_ratio: Annotated[
        float, typer.Option(help="Share of the patches that are hidden, and not read.")
    ] = 0.9,
    rounds: Annotated[int, typer.Option(help="Number of rounds, whose medians are reported.")] = 5,
    seconds: Annotated[
        float, typer.Option(help="Processor time per row of the table and round, in seconds.")
    ] = 1.0,
    json_file: Json = None,
) -> None:
    """Measure the images per second that a core can prepare.

    folder_pil: JPEG files through torchvision's folder, random crop and flip. store_image: the same
    crops and flips from a packed store, of the visible patches alone. store_patch: the visible patches
    from a packed store, without a random crop.
    """
    from micl_bench.bench.loader import LoaderSettings, bench_loader
    from micl_bench.bench.machine import machine_load
    from micl_bench.runtime.terminal import table_text

    settings = LoaderSettings(
        images=images,
        batch=batch,
        img_size=img_size,
        patch_size=patch_size,
        store_size=store_size,
        mask_ratio=mask_ratio,
        rounds=rounds,
        seconds=seconds,
    )
    load = machine_load()
    results = bench_loader(settings)
    speeds = {result["name"]: result["images_per_second_per_core"] for result in results}
    rows = [
        (name, f"{speed:,.0f}", f"{speed / speeds['folder_pil']:,.1f}")
        for name, speed in speeds.items()
    ]
    print(table_text(("name", "images/s/core", "x folder_pil"), rows))
    _write(json_file, "loader", results, dataclasses.asdict(settings), load)


@app.command()
def step(
    arch: Annotated[
        str, typer.Option(help="Architecture: a name of `micl-bench list architectures`.")
    ] = "vit_small_patch16_224",
    mask_ratio: Annotated[float, typer.Option(help="Share of the patches that are hidden.")] = 0.9,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    micro_batch: Annotated[
        int, typer.Option(help="Images per forward pass of our step; 0 for the whole batch.")
    ] = 0,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of our step: fp32, bf16, or auto for bf16 where the machine has it."
        ),
    ] = "auto",
    compile_blocks: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile our step; if not given, only on a GPU.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps per row of the table and round.")] = 5,
    rounds: Annotated[int, typer.Option(help="Number of rounds, whose medians are reported.")] = 5,
    json_file: Json = None,
) -> None:
    """Measure a pre-training step against a plain implementation.

    plain: fp32, all patches embedded before the visible ones are chosen, AdamW one tensor at a time.
    ours: the step of `micl-bench pretrain`. ours_with_data: the same, with images from a packed store.
    MFU is the share of the machine's peak in matrix products that the model's own FLOP make up.
    """
    from micl_bench.bench.machine import best_precision, machine_load, this_device
    from micl_bench.bench.step import StepSettings, bench_step
    from micl_bench.runtime.terminal import table_text

    device = this_device()
    chosen: Any = best_precision(device) if precision == "auto" else precision
    settings = StepSettings(
        arch=arch,
        mask_ratio=mask_ratio,
        batch=batch,
        micro_batch=micro_batch,
        precision=chosen,
        compile=device.type == "cuda" if compile_blocks is None else compile_blocks,
        steps=steps,
        rounds=rounds,
    )
    load = machine_load()
    results = bench_step(settings, device)
    plain = results[0]["images_per_second"]
    rows = [
        (
            result["name"],
            result["precision"],
            f"{result['images_per_second']:,.1f}",
            f"{result['images_per_second'] / plain:.2f}",
            f"{100 * result['mfu']:.1f} %",
            f"{result['peak_flop_per_second'] / 1e12:.3g}",
        )
        for result in results
    ]
    header = ("name", "precision", "images/s", "x plain", "MFU", "peak [TFLOP/s]")
    print(f"{arch} on {device}, mask ratio {mask_ratio}, batch {batch}")
    print(f"{results[0]['flop_per_image'] / 1e9:.3f} GFLOP per image, forward and backward")
    print(table_text(header, rows))
    if device.type == "cuda":
        hours = 800 * 1_281_167 / results[-1]["images_per_second"] / 3600
        print(
            f"800 epochs of ImageNet-1k would take {hours:,.0f} hours here; published for MiCL's "
            "ViT-L/16 (epochs and mask ratio not stated with it): 133 hours on 4 A100"
        )
    _write(json_file, "step", results, dataclasses.asdict(settings) | {"device": str(device)}, load)


@app.command()
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
    _write(json_file, "knn", [found], dataclasses.asdict(settings) | {"device": str(device)}, load)


@app.command()
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
    _write(json_file, "dense", results, settings | {"device": str(device)}, load)


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


def _write(
    file: Path | None,
    benchmark: str,
    results: list[dict[str, Any]],
    settings: dict[str, Any],
    load: float,
) -> None:
    from micl_bench.bench.machine import write_figures

    if file:
        write_figures(file, benchmark=benchmark, results=results, settings=settings, load=load)
