"""`micl-bench show` of a network on images: attention, patches, features, similarity of views."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from micl_bench.cli.options import (
    CropPct,
    Images,
    ImageSize,
    Overrides,
    Reading,
    Source,
    grouped,
)
from micl_bench.cli.show._common import Picture, drawing
from micl_bench.runtime.errors import InputError

if TYPE_CHECKING:
    from micl_bench.checkpoints import Checkpoint
    from micl_bench.data.pixels import Pixels
    from micl_bench.report.figures.render import PictureKind

_MOST_IMAGES = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(Reading):
    """A checkpoint, and the images that it gets."""

    checkpoint: Source
    images: Images
    img_size: ImageSize = None
    crop_pct: CropPct = 0.875

    def opened(self) -> "tuple[Checkpoint, Pixels]":
        """Read the checkpoint, and return it with the way in which images are read for it."""
        from micl_bench.data.pixels import Pixels

        pixels = Pixels(img_size=self.img_size or 0, crop_pct=self.crop_pct)
        loaded = self.load(self.checkpoint)
        return loaded, dataclasses.replace(pixels, img_size=loaded.input_size(pixels.img_size))

    def chosen(self, pixels: "Pixels", number: int) -> Any:
        """Return images (N, 3, H, W), spread evenly over the folder."""
        from micl_bench.data.source import open_images
        from micl_bench.engine.frozen.pictures.network_pictures import chosen_images

        return chosen_images(open_images(self.images)[0], pixels, number)[0]


Number = Annotated[
    int,
    typer.Option(min=1, max=_MOST_IMAGES, help="Number of images, spread evenly over the folder."),
]


@grouped
def attention(
    network: Network,
    out: Picture,
    number: Number = _MOST_IMAGES,
) -> None:
    """Draw the attention of the last block on images.

    It shows the mean over the heads, and single heads. The query is [CLS]; for networks without it, the
    mean over all patches. The weights are the network's own, after its softmax.
    """
    with drawing():
        from micl_bench.report.figures.token_maps import ATTENTION
    from micl_bench.engine.frozen.pictures.network_pictures import attention_arrays

    loaded, pixels = network.opened()
    arrays = attention_arrays(loaded, network.chosen(pixels, number), device=_device())
    _write(loaded, ATTENTION, arrays, out, "attention")


@grouped
def patches(
    network: Network,
    out: Picture,
    number: Number = _MOST_IMAGES,
) -> None:
    """Draw the principal components of patch tokens as colours.

    Red, green and blue are the first three components of the tokens of all shown images together, after
    the final norm.
    """
    with drawing():
        from micl_bench.report.figures.token_maps import PATCHES
    from micl_bench.engine.frozen.pictures.network_pictures import patch_arrays

    loaded, pixels = network.opened()
    arrays = patch_arrays(loaded, network.chosen(pixels, number), device=_device())
    _write(loaded, PATCHES, arrays, out, "patches")


@grouped
def features(
    network: Network,
    out: Picture,
    number: Annotated[
        int,
        typer.Option(min=4, max=10_000, help="Largest number of images, evenly many per class."),
    ] = 1000,
    classes: Annotated[
        int, typer.Option(min=1, max=16, help="Largest number of classes, spread evenly.")
    ] = 10,
    perplexity: Annotated[
        float, typer.Option(min=1, help="Perplexity of t-SNE: about how many neighbours count.")
    ] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of t-SNE.")] = 0,
) -> None:
    """Draw the features of images on a plane by t-SNE.

    Colour and shape show the class. Features are [CLS] after the final norm; for networks without it,
    the mean patch.
    """
    with drawing():
        from micl_bench.report.figures.feature_plots import FEATURES
    from micl_bench.data.source import open_images
    from micl_bench.engine.frozen.pictures.feature_map import mapped_images

    loaded, pixels = network.opened()
    arrays = mapped_images(
        loaded,
        open_images(network.images)[0],
        pixels,
        number=number,
        classes=classes,
        perplexity=perplexity,
        seed=seed,
        device=_device(),
    )
    _write(loaded, FEATURES, arrays, out, "features")


@grouped
def similarity(
    checkpoint: Source,
    images: Images,
    reading: Reading,
    recipe: Annotated[
        Path, typer.Option(help="Pre-training recipe, by name or path, whose views are drawn.")
    ],
    out: Picture,
    number: Annotated[
        int, typer.Option(min=2, max=4000, help="Largest number of images, spread evenly.")
    ] = 1000,
    assignments: Overrides = None,
) -> None:
    """Draw how similar views of one and of different images are.

    The masked views are those of the first epoch of the recipe's pre-training, encoded as there; images
    are cropped as in an evaluation. The network must be a plain ViT with [CLS], and the recipe's
    objective must see several views of an image.
    """
    with drawing():
        from micl_bench.report.figures.feature_plots import SIMILARITY
    from micl_bench.data.source import open_images
    from micl_bench.engine.frozen.pictures.view_similarity import (
        features_of_views,
        similarity_arrays,
    )
    from micl_bench.engine.pretraining.recipe import PretrainRecipe
    from micl_bench.runtime.config import resolve

    resolved = resolve(PretrainRecipe, recipe, assignments or [])
    objective = resolved.objective.build()
    if objective.wants(resolved.sized_arch()).num_views < 2:
        raise InputError(
            f"{recipe}: {objective.name} sees one view of an image; give a recipe with several"
        )
    loaded = reading.load(checkpoint)
    loaded.input_size(resolved.pixels.img_size)
    features_NVD = features_of_views(
        loaded,
        open_images(images)[0],
        objective.wants,
        resolved.pixels,
        precision=resolved.precision,
        seed=resolved.seed,
        number=number,
        device=_device(),
    )
    arrays = similarity_arrays(features_NVD, kappa=objective.kappa)
    _write(loaded, SIMILARITY, arrays, out, "similarity")


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _write(
    loaded: "Checkpoint", kind: "PictureKind", arrays: dict[str, Any], out: Path, name: str
) -> None:
    from micl_bench.report.figures.render import save_picture
    from micl_bench.runtime.log import printable

    found = {loaded.method: arrays}
    save_picture(out, lambda: kind.draw(found))
    print(f"{printable(kind.caption(found))}\n\n{name}: {out}")
