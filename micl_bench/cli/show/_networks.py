"""`micl-bench show` of a network on images: attention, patches, features, similarity of views."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from micl_bench.cli.options import Arch, Branch, Layout, Overrides, Source
from micl_bench.cli.options import Pixels as PixelsTold
from micl_bench.cli.show._common import (
    CropPct,
    Images,
    ImageSize,
    Picture,
    check_picture,
    drawing,
)
from micl_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from micl_bench.checkpoints import Checkpoint
    from micl_bench.data.pixels import Pixels

_MOST_IMAGES = 6

Number = Annotated[
    int, typer.Option(min=1, max=_MOST_IMAGES, help="Images, spread evenly over the folder.")
]


def attention(
    checkpoint: Source,
    images: Images,
    out: Picture,
    number: Number = _MOST_IMAGES,
    img_size: ImageSize = None,
    crop_pct: CropPct = 0.875,
    arch: Arch = None,
    layout: Layout = None,
    branch: Branch = None,
    normalised: PixelsTold = None,
) -> None:
    """Draw what the last block attends to in images: the mean over heads, and single heads.

    The query is [CLS]; for networks without it, the mean over all patches. The weights are the
    network's own, after its softmax.
    """
    check_picture(out)
    with drawing():
        from micl_bench.report.figures.token_maps import attention_caption, attention_maps
    from micl_bench.engine.frozen.pictures.network_pictures import attention_arrays

    loaded, pixels = _loaded(checkpoint, arch, layout, branch, normalised, img_size, crop_pct)
    arrays = attention_arrays(loaded, _pixels(images, pixels, number), device=_device())
    _write(loaded, arrays, attention_maps, attention_caption, out, "attention")


def patches(
    checkpoint: Source,
    images: Images,
    out: Picture,
    number: Number = _MOST_IMAGES,
    img_size: ImageSize = None,
    crop_pct: CropPct = 0.875,
    arch: Arch = None,
    layout: Layout = None,
    branch: Branch = None,
    normalised: PixelsTold = None,
) -> None:
    """Draw the first three principal components of patch tokens as red, green and blue.

    The components are those of all shown images together, after the final norm.
    """
    check_picture(out)
    with drawing():
        from micl_bench.report.figures.token_maps import patch_caption, patch_colours
    from micl_bench.engine.frozen.pictures.network_pictures import patch_arrays

    loaded, pixels = _loaded(checkpoint, arch, layout, branch, normalised, img_size, crop_pct)
    arrays = patch_arrays(loaded, _pixels(images, pixels, number), device=_device())
    _write(loaded, arrays, patch_colours, patch_caption, out, "patches")


def features(
    checkpoint: Source,
    images: Images,
    out: Picture,
    number: Annotated[
        int, typer.Option(min=4, max=10_000, help="Images at most, evenly many of each class.")
    ] = 1000,
    classes: Annotated[
        int, typer.Option(min=1, max=16, help="Classes at most, spread evenly.")
    ] = 10,
    perplexity: Annotated[
        float, typer.Option(min=1, help="Of t-SNE: about how many neighbours count.")
    ] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of t-SNE.")] = 0,
    img_size: ImageSize = None,
    crop_pct: CropPct = 0.875,
    arch: Arch = None,
    layout: Layout = None,
    branch: Branch = None,
    normalised: PixelsTold = None,
) -> None:
    """Draw features of images on a plane by t-SNE, coloured and shaped by class.

    Features are [CLS] after the final norm; for networks without it, the mean patch.
    """
    check_picture(out)
    with drawing():
        from micl_bench.report.figures.feature_plots import feature_maps, map_caption
    from micl_bench.data.any_images import open_images
    from micl_bench.engine.frozen.pictures.feature_map import mapped_images

    loaded, pixels = _loaded(checkpoint, arch, layout, branch, normalised, img_size, crop_pct)
    source, _ = open_images(images)
    arrays = mapped_images(
        loaded,
        source,
        pixels,
        number=number,
        classes=classes,
        perplexity=perplexity,
        seed=seed,
        device=_device(),
    )
    _write(loaded, arrays, feature_maps, map_caption, out, "features")


def similarity(
    checkpoint: Source,
    images: Images,
    recipe: Annotated[
        Path, typer.Option(help="Pre-training recipe: mask ratio, views, kappa, size, seed.")
    ],
    out: Picture,
    number: Annotated[
        int, typer.Option(min=2, max=4000, help="Images at most, spread evenly.")
    ] = 1000,
    assignments: Overrides = None,
    arch: Arch = None,
    layout: Layout = None,
    branch: Branch = None,
    normalised: PixelsTold = None,
) -> None:
    """Draw how similar masked views of one image are, and views of different images.

    Views are drawn and encoded as in the recipe's pre-training, those of its first epoch; images are
    cropped as for evaluation. The network must be one that MiCL trains.
    """
    check_picture(out)
    with drawing():
        from micl_bench.report.figures.feature_plots import (
            similarity_caption,
            similarity_histograms,
        )
    from micl_bench.checkpoints import load_checkpoint
    from micl_bench.data.any_images import open_images
    from micl_bench.engine.frozen.pictures.view_similarity import (
        features_of_views,
        similarity_arrays,
    )
    from micl_bench.engine.pretraining.recipe import PretrainRecipe
    from micl_bench.objectives.micl import MiCL
    from micl_bench.runtime.config import resolve

    resolved = resolve(PretrainRecipe, recipe, assignments or [])
    if not isinstance(resolved.objective, MiCL.Config):
        raise InputError(f"{recipe} is no recipe of MiCL, whose similarity of views is drawn")
    loaded = load_checkpoint(checkpoint, arch=arch, layout=layout, branch=branch, pixels=normalised)
    loaded.input_size(resolved.pixels.img_size)
    source, _ = open_images(images)
    features_NVD = features_of_views(
        loaded,
        source,
        resolved.objective,
        resolved.pixels,
        precision=resolved.precision,
        seed=resolved.seed,
        number=number,
        device=_device(),
    )
    arrays = similarity_arrays(features_NVD, kappa=resolved.objective.kappa)
    _write(loaded, arrays, similarity_histograms, similarity_caption, out, "similarity")


def _loaded(
    checkpoint: str,
    arch: str | None,
    layout: str | None,
    branch: str | None,
    normalised: str | None,
    img_size: int | None,
    crop_pct: float,
) -> "tuple[Checkpoint, Pixels]":
    from micl_bench.checkpoints import load_checkpoint
    from micl_bench.data.pixels import Pixels

    pixels = Pixels(img_size=img_size or 0, crop_pct=crop_pct)
    loaded = load_checkpoint(checkpoint, arch=arch, layout=layout, branch=branch, pixels=normalised)
    size = loaded.input_size(pixels.img_size)
    return loaded, dataclasses.replace(pixels, img_size=size)


def _pixels(images: Path, pixels: "Pixels", number: int) -> Any:
    from micl_bench.data.any_images import open_images
    from micl_bench.engine.frozen.pictures.network_pictures import chosen_images

    source, _ = open_images(images)
    return chosen_images(source, pixels, number)[0]


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _write(
    loaded: "Checkpoint",
    arrays: dict[str, Any],
    draw: "Callable[[dict[str, dict[str, Any]]], Figure]",
    caption: "Callable[[dict[str, dict[str, Any]]], str]",
    out: Path,
    name: str,
) -> None:
    from micl_bench.report.figures.render import save_picture
    from micl_bench.runtime.log import printable

    found = {loaded.method: arrays}
    save_picture(out, lambda: draw(found))
    print(f"{printable(caption(found))}\n\n{name}: {out}")
