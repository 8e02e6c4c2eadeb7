"""`micl-bench features`: features of any images as one file."""

import dataclasses
from pathlib import Path
from typing import Annotated, get_args

import typer

from micl_bench.cli.options import Arch, Branch, Layout, Source, Strict
from micl_bench.cli.options import Pixels as PixelsTold
from micl_bench.runtime.errors import InputError


def features(
    checkpoint: Source,
    images: Annotated[
        Path,
        typer.Option(
            help="Class folders, a folder of images, one image, or a packed store.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.", show_default=False)],
    pool: Annotated[
        str,
        typer.Option(help="cls, avg (the mean patch) or tokens (all of them), after the norm."),
    ] = "cls",
    img_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pixels of a side of the input; the checkpoint's own if not given."
        ),
    ] = None,
    crop_pct: Annotated[
        float, typer.Option(help="The short side becomes size / crop_pct, then the centre is cut.")
    ] = 0.875,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images read at a time; changes no bit of the result.")
    ] = 128,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode; 0 for none beside.")
    ] = 0,
    arch: Arch = None,
    layout: Layout = None,
    branch: Branch = None,
    normalised: PixelsTold = None,
    strict: Strict = False,
) -> None:
    """Write a backbone's features of any images: arrays `features` and `files`, `labels` if known.

    Started by torchrun, its processes share the work; the file is the same, byte for byte.
    """
    from micl_bench.checkpoints import load_checkpoint
    from micl_bench.data.pixels import Pixels
    from micl_bench.engine.frozen.feature_export import export_features
    from micl_bench.runtime.distributed import process_group
    from micl_bench.runtime.log import process_number
    from micl_bench.runtime.values import Precision, shown

    if precision not in get_args(Precision):
        raise InputError(
            f"--precision is {shown(precision)}; allowed: {', '.join(get_args(Precision))}"
        )
    with process_group() as device:
        pixels = Pixels(img_size=img_size or 0, crop_pct=crop_pct)
        loaded = load_checkpoint(
            checkpoint, arch=arch, layout=layout, branch=branch, pixels=normalised
        )
        size = loaded.input_size(pixels.img_size)
        if strict:
            loaded.refuse_guesses(size)
        shape = export_features(
            loaded,
            images,
            out,
            pool=pool,
            pixels=dataclasses.replace(pixels, img_size=size),
            precision=precision,
            device=device,
            batch_size=batch_size,
            num_workers=workers,
        )
    if process_number() == 0:
        print(f"features: {out}  {' x '.join(map(str, shape))}")
