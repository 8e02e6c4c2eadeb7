"""`micl-bench show`: pictures of networks, recipes and records, and a list of learning rates."""

import typer

from micl_bench.cli.show import _networks, _recipes, _records

app = typer.Typer(
    help="Draw pictures of networks, recipes and records.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for _command in (
    *(_records.cost, _records.training, _records.robustness, _records.ablation),
    *(_records.segmentation, _records.detection, _recipes.views, _networks.attention),
    *(_networks.patches, _networks.features, _networks.similarity, _recipes.layers),
):
    app.command()(_command)
