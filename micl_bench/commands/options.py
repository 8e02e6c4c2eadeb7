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
Arch = Annotated[
    str | None, typer.Option(help="Architecture, where the file's shapes do not tell it.")
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--format", help="As `micl-bench list formats` names them, where keys fit several."
    ),
]
Branch = Annotated[
    str | None,
    typer.Option(help="Which of several networks in the file: teacher, student, base, momentum."),
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write the figures and the machine as JSON too.")
]
