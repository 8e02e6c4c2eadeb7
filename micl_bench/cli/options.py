"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from micl_bench.runtime.network import check_source

SOURCES = "A file, a folder in Hugging Face's layout, timm:NAME, public:NAME or random:ARCH."
Source = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        help=SOURCES,
        show_default=False,
        callback=check_source,
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        "--init",
        help=f"Start from a checkpoint's backbone instead of random weights. {SOURCES}",
        show_default=False,
        callback=lambda source: source and check_source(source),
    ),
]
Data = Annotated[Path, typer.Option(help="Data folder.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder for what is made.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; repeatable."),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="Architecture, where the file's shapes do not tell it: a name, or values such as "
        "heads=6,grid=14x14,norm_eps=1e-6."
    ),
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
Pixels = Annotated[
    str | None,
    typer.Option(
        "--pixels",
        help="Mean and std that the network was trained with, where the file does not state them: "
        "imagenet, inception (0.5), clip, or six numbers with commas between them.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Refuse a checkpoint of which anything would be assumed."),
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write the figures and the machine as JSON too.")
]
