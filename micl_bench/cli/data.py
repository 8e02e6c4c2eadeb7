"""`micl-bench data`: make the embedded data set, pack data sets, verify packed stores."""

import time
from pathlib import Path
from typing import Annotated

import typer

from micl_bench.cli.options import Out

app = typer.Typer(
    help="Make, pack and verify data sets.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def embedded(
    out: Out,
    seed: Annotated[
        int, typer.Option(help="Seed of the split and of everything that is drawn.")
    ] = 0,
) -> None:
    """Make the embedded data set from scikit-learn's images.

    It has parts in the layouts of ImageNet, its shifted sets, ADE20K and COCO.
    """
    from micl_bench.data.embedded import write_embedded
    from micl_bench.runtime.log import Progress

    with Progress("embedded data", total=6) as progress:

        def part_started(part: str, done: int, total: int) -> None:
            progress.total = total
            while progress.done < done:
                progress.step(part)

        write_embedded(out, seed=seed, progress=part_started)
    print(f"embedded data: {out}")


@app.command()
def pack(
    images: Annotated[
        Path,
        typer.Option(
            help="Folder of class folders, or a data set with such folders in train/, val/, ...: each "
            "split becomes a store in OUT/<split>.",
            show_default=False,
        ),
    ],
    out: Out,
    layout: Annotated[
        str,
        typer.Option(
            help="patch: the evaluation's crop, patch by patch, for recipes that only hide patches. "
            "image: whole pictures squashed to a square, for recipes that crop and flip.",
            show_default=False,
        ),
    ],
    size: Annotated[int, typer.Option(help="Side of a stored image in pixels.")] = 224,
    patch_size: Annotated[
        int | None,
        typer.Option(help="Patch layout: side of a patch in pixels; it must divide the size."),
    ] = None,
    crop_pct: Annotated[
        float | None,
        typer.Option(
            help="Patch layout: share of the short side that the centre crop keeps; "
            "0.875 if not given."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that decode images; one per core if not given."),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Leave out images that cannot be read, instead of stopping."
        ),
    ] = False,
) -> None:
    """Pack an image folder into a store that needs no decoding.

    A packed store holds uncompressed pixels. The same command goes on after an interruption. EXIF's
    orientation is not applied.
    """
    from micl_bench.data.packed.pack import make_form, pack_tree

    start = time.monotonic()
    form = make_form(layout, size, patch_size, crop_pct)
    packed = pack_tree(images, out, form, workers=workers, skip_bad=skip_bad)
    seconds = time.monotonic() - start
    new = sum(one.new_images for one in packed)
    total = sum(len(one.store) for one in packed)
    size_gb = sum(one.store.pixels.nbytes for one in packed) / 1e9
    speed = f"{new} of them now, in {seconds:.1f} s ({new / seconds:,.0f} images/s)"
    print(f"packed: {out}  {total} images, {size_gb:,.3f} GB, {speed}")


@app.command()
def verify(
    store: Annotated[Path, typer.Argument(help="Packed store, or a folder with one per split.")],
) -> None:
    """Check every byte of a packed store against its checksums."""
    from micl_bench.data.packed.verify import verify_tree

    start = time.monotonic()
    images = verify_tree(store)
    print(f"whole: {store}  {images} images in {time.monotonic() - start:.1f} s")
