"""`micl-bench bench` of pre-training: its input, its step, and the cost of each method."""

import dataclasses
from typing import Annotated, Any

import typer

from micl_bench.cli.bench._figures import write
from micl_bench.cli.options import Json
from micl_bench.runtime.log import printable


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
    write(json_file, "loader", results, dataclasses.asdict(settings), load)


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
    write(json_file, "step", results, dataclasses.asdict(settings) | {"device": str(device)}, load)


def objectives(
    arch: Annotated[
        str, typer.Option(help="Architecture: a name of `micl-bench list architectures`.")
    ] = "vit_small_patch16_224",
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            help="Objective to measure beside MiCL, a name of `micl-bench list objectives`; repeatable. "
            "Without it, all.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    precision: Annotated[
        str,
        typer.Option(help="Precision: fp32, bf16, or auto for bf16 where the machine has it."),
    ] = "auto",
    compile_blocks: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile; if not given, only on a GPU."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps per row of the table and round.")] = 1,
    rounds: Annotated[int, typer.Option(help="Number of rounds, whose medians are reported.")] = 3,
    json_file: Json = None,
) -> None:
    """Measure the cost of every pre-training method against MiCL's.

    Each objective, of plug-ins too, runs with its default values on one ViT: images/s of the step of
    `micl-bench pretrain`, with its batch in memory and read from a packed store (with data). Counted for
    an image: FLOP forward and backward, and the tokens that pass the ViT, those that it learns from and
    those of a teacher. Peak memory is that of two steps in a process of their own, without the program
    itself.
    """
    from micl_bench.bench.machine import best_precision, machine_load, this_device
    from micl_bench.bench.objectives import ObjectivesSettings, bench_objectives
    from micl_bench.runtime.terminal import table_text

    device = this_device()
    chosen: Any = best_precision(device) if precision == "auto" else precision
    settings = ObjectivesSettings(
        arch=arch,
        objectives=tuple(names or ()),
        batch=batch,
        precision=chosen,
        compile=device.type == "cuda" if compile_blocks is None else compile_blocks,
        steps=steps,
        rounds=rounds,
    )
    load = machine_load()
    results = bench_objectives(settings, device)
    print(f"{arch} on {device}, {chosen}, batch {batch}; x: as a multiple of MiCL's")
    header = ("objective", "images/s", "x", "with data", "x", "GFLOP/image", "x", "tokens")
    rows = [_cost_row(result) for result in results]
    print(table_text((*header, "peak [MiB]", "x"), rows))
    for result in results:
        if "error" in result:
            print(printable(f"{result['name']} was not measured: {result['error']}"))
    write(
        json_file,
        "objectives",
        results,
        dataclasses.asdict(settings) | {"device": str(device)},
        load,
    )


def _cost_row(result: dict[str, Any]) -> tuple[str, ...]:
    """The cells of an objective; tokens of a teacher after a plus sign."""
    if "error" in result:
        return (result["name"], "not measured", *[""] * 8)
    ratio = result.get("x_micl", {})
    student, teacher = result["student_tokens"], result["teacher_tokens"]

    def cells(figure: str, form: str, unit: float = 1) -> tuple[str, str]:
        times = f"{ratio[figure]:.2f}" if figure in ratio else ""
        return format(result[figure] / unit, form), times

    return (
        result["name"],
        *cells("images_per_second", ",.1f"),
        *cells("images_per_second_with_data", ",.1f"),
        *cells("flop_per_image", ",.2f", 1e9),
        f"{student:g} + {teacher:g}" if teacher else f"{student:g}",
        *cells("peak_memory_mib", ",.0f"),
    )
