"""`micl-bench bench`: measured speed."""

import typer

from micl_bench.cli.bench import _downstream, _pretraining

app = typer.Typer(
    help="Measure speed; figures that are compared come from one run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for _command in (
    *(_pretraining.loader, _pretraining.step, _pretraining.objectives),
    *(_downstream.knn, _downstream.dense),
):
    app.command()(_command)
