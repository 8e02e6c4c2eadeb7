"""`micl-bench show` of a recipe: the patches that each view sees, the learning rates of layers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micl_bench.cli.options import Overrides
from micl_bench.cli.show._common import Picture, drawing
from micl_bench.data.image_files import name_text

if TYPE_CHECKING:
    from micl_bench.engine.pretraining.recipe import PretrainRecipe

_MOST_IMAGES = 60
_LONGEST_NAME = 40


def views(
    images: Annotated[
        Path,
        typer.Option(
            help="Folder of images or of class folders, or one image.", show_default=False
        ),
    ],
    recipe: Annotated[
        Path, typer.Option(help="Pre-training recipe, by name or path, whose views are drawn.")
    ],
    out: Picture,
    number: Annotated[
        int,
        typer.Option(
            min=1, max=_MOST_IMAGES, help="Number of images, spread evenly over the folder."
        ),
    ] = 6,
    assignments: Overrides = None,
) -> None:
    """Draw the patches that each view sees in pre-training.

    A method that has no views shows the parts that it names: visible patches, targets. All are those of
    the recipe's seed in the first epoch. Images are cropped as in an evaluation, in the centre: a
    recipe's random crop and flip are not shown. Where each view is a crop of its own (SimCLR), it is
    cut out of that centre, and its colours are changed as in training.
    """
    from micl_bench.engine.pretraining.recipe import PretrainRecipe
    from micl_bench.engine.pretraining.view_pictures import find_images, views_of_images
    from micl_bench.runtime.config import resolve

    with drawing():
        from micl_bench.report.figures.render import save_picture
        from micl_bench.report.figures.sample_images import titles_of, views_of
    resolved = resolve(PretrainRecipe, recipe, assignments or [])
    paths = find_images(images, number=number)
    arrays = views_of_images(resolved, paths)
    names = [path.relative_to(images) if path != images else Path(path.name) for path in paths]
    save_picture(
        out,
        lambda: views_of(
            arrays["images_NHWC"],
            arrays["keep_NVK"],
            int(arrays["patch_size"]),
            crops_NVHWC=arrays.get("crops_NVHWC"),
            heading=_heading(recipe.name, resolved),
            titles=titles_of(arrays),
            names=list(map(_label, names)),
        ),
    )
    print(f"views: {out}")


def layers(
    config: Annotated[
        Path,
        typer.Argument(
            help="Config of eval ade20k or coco, by name or path; its backbone is a MiCLViT."
        ),
    ],
    assignments: Overrides = None,
) -> None:
    """List the learning rate and weight decay of each parameter.

    The table has a row per parameter of a dense task's model that MiCLViTConstructor hands to the
    optimiser. The model is built with the config's checkpoint; data are not needed. The rates are the
    largest of the schedule.
    """
    from micl_bench.openmmlab.optim import HEADER, layer_rows
    from micl_bench.runtime.terminal import table_text

    print(table_text(HEADER, layer_rows(config, assignments or [])))


def _heading(name: str, recipe: "PretrainRecipe") -> str:
    objective, arch = recipe.objective.build(), recipe.sized_arch()
    return f"{name}: {'; '.join(filter(None, (objective.summary(), objective.sees_in_full(arch))))}"


def _label(path: Path) -> str:
    """Return a file's name, shortened to fit below an image."""
    name = name_text(path.as_posix())
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
