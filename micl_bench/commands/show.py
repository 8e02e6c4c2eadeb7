"""`micl-bench show`: what a model sees, how robust models are, how fast each layer learns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micl_bench.commands.options import Overrides
from micl_bench.errors import InputError

if TYPE_CHECKING:
    from micl_bench.engine.recipe import PretrainRecipe

app = typer.Typer(
    help="Show what a model sees, how robust models are, how fast each layer learns.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_FORMATS = (".png", ".pdf", ".svg")
_MOST_IMAGES = 60
_LONGEST_NAME = 40


@app.callback()
def _group() -> None:
    """Keep `show` a group whatever the number of its commands."""


@app.command()
def views(
    images: Annotated[
        Path, typer.Option(help="Folder of images, or of class folders.", show_default=False)
    ],
    recipe: Annotated[
        Path, typer.Option(help="Pre-training recipe: mask ratio, views, size, seed.")
    ],
    out: Annotated[Path, typer.Option(help="The picture: .png, .pdf or .svg.", show_default=False)],
    number: Annotated[
        int, typer.Option(min=1, max=_MOST_IMAGES, help="Images, spread evenly over the folder.")
    ] = 6,
    assignments: Overrides = None,
) -> None:
    """Draw which patches of an image each view sees in pre-training.

    Images are cropped as for evaluation, in the centre: a recipe's random crop and flip are not shown.
    The views are those of the recipe's seed in the first epoch.
    """
    _check_picture(out)
    from micl_bench.config import load_recipe, override
    from micl_bench.engine.recipe import PretrainRecipe
    from micl_bench.engine.views_shown import find_images, views_of_images

    with _drawing():
        from micl_bench.report.drawing import save_picture
        from micl_bench.report.pictures import views_of
    resolved = override(load_recipe(recipe, PretrainRecipe), assignments or [])
    paths = find_images(images, number=number)
    arrays = views_of_images(resolved, paths)
    save_picture(
        out,
        lambda: views_of(
            arrays["images_NHWC"],
            arrays["keep_NVK"],
            int(arrays["patch_size"]),
            heading=_heading(recipe.name, resolved),
            names=[_label(path.relative_to(images)) for path in paths],
        ),
    )
    print(f"views: {out}")


@app.command()
def robustness(
    results: Annotated[
        Path,
        typer.Option(
            help="Folder with records of `eval robustness`, at any depth.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="The picture: .png, .pdf or .svg.", show_default=False)],
) -> None:
    """Draw effective robustness: clean against shifted top-1, a panel for each shifted set.

    Where three checkpoints or more were measured on a set, a line is fitted through them in logits;
    the table printed gives each one's distance from it (Taori et al. 2020).
    """
    _check_picture(out)
    from micl_bench.log import printable
    from micl_bench.record import read_results
    from micl_bench.report.robustness import TABLE_HEADER, caption, panels, table_rows
    from micl_bench.report.selection import select
    from micl_bench.report.summary import aligned

    drawn = panels(select(read_results(results)).of_task("robustness"))
    if not drawn:
        raise InputError(
            f"no record below {results} has both clean and shifted top-1; `micl-bench eval robustness` "
            "writes them"
        )
    with _drawing():
        from micl_bench.report.drawing import save_picture
        from micl_bench.report.robustness_plot import robustness_scatter
    save_picture(out, lambda: robustness_scatter(drawn))
    rows = [[printable(cell) for cell in row] for row in (TABLE_HEADER, *table_rows(drawn))]
    print("\n".join(aligned(rows, left=range(2))))
    print(f"\n{printable(caption(drawn))}\n\nrobustness: {out}")


@app.command()
def layers(
    config: Annotated[Path, typer.Argument(help="mmengine config with a MiCLViT.")],
    assignments: Overrides = None,
) -> None:
    """List each parameter of a dense task's model with its learning rate and weight decay.

    A row for each one that MiCLViTConstructor hands to the optimiser. The model is built with the
    config's checkpoint; data is not needed. Rates are those at the top of the schedule.
    """
    from micl_bench.openmmlab.layers import HEADER, layer_rows
    from micl_bench.report.summary import aligned

    print("\n".join(aligned([HEADER, *layer_rows(config, assignments or [])], left={0})))


def _check_picture(out: Path) -> None:
    if out.suffix.lower() not in _FORMATS:
        raise InputError(f"--out {out} must end in one of: {', '.join(_FORMATS)}")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; give a file")


@contextmanager
def _drawing() -> Iterator[None]:
    """Say what to install where an import fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"a picture needs {error.name}: pip install 'micl-bench[report]'"
        ) from error


def _heading(name: str, recipe: "PretrainRecipe") -> str:
    from micl_bench.views import patches_per_view

    objective, arch = recipe.objective, recipe.sized_arch()
    V, ratio, L, p = objective.num_views, objective.mask_ratio, arch.num_patches, arch.patch_size
    K = patches_per_view(L, num_views=V, mask_ratio=ratio)
    return (
        f"{name}: mask ratio {ratio}; each of {V} views sees {K} of {L} patches of {p} x {p} pixels, "
        f"none sees the other {L - V * K}"
    )


def _label(path: Path) -> str:
    """A file's name, cut to what fits below an image; bytes that are no text become `?`."""
    name = path.as_posix().encode(errors="replace").decode()
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
