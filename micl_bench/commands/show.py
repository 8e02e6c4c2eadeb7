"""`micl-bench show`: pictures of what a model sees."""

import typer

app = typer.Typer(help="Draw what a model sees.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep `show` a group whatever the number of its commands."""
