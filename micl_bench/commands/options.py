"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option(help="Data folder.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder for what is made.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; repeatable."),
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write the figures and the machine as JSON too.")
]
