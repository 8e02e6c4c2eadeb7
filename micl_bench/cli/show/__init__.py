"""`micl-bench show`: what a model sees and makes of it, what records say, how fast each layer learns."""

import typer

from micl_bench.cli.show import _networks, _recipes, _records

app = typer.Typer(
    help="Show what a model sees and makes of it, what records say, how fast each layer learns.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for _command in (
    *(_records.cost, _records.training, _records.robustness, _records.ablation),
    *(_records.segmentation, _records.detection, _recipes.views, _networks.attention),
    *(_networks.patches, _networks.features, _networks.similarity, _recipes.layers),
):
    app.command()(_command)
