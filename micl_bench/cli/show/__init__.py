"""`micl-bench show`: what a model sees and makes of it, what records say, how fast each layer learns."""

import typer

from micl_bench.cli.show._layers import layers
from micl_bench.cli.show._networks import attention, features, patches, similarity
from micl_bench.cli.show._records import (
    ablation,
    cost,
    detection,
    robustness,
    segmentation,
    training,
)
from micl_bench.cli.show._views import views

app = typer.Typer(
    help="Show what a model sees and makes of it, what records say, how fast each layer learns.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for _command in (
    *(cost, training, robustness, ablation, segmentation, detection),
    *(views, attention, patches, features, similarity, layers),
):
    app.command()(_command)
