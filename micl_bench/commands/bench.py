"""`micl-bench bench`: measured speed."""

import typer

app = typer.Typer(
    help="Measure speed; every ratio is of figures from one run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Keep `bench` a group whatever the number of its commands."""
