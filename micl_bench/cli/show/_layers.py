"""`micl-bench show layers`: how fast each layer of a dense task's model learns."""

from pathlib import Path
from typing import Annotated

import typer

from micl_bench.cli.options import Overrides


def layers(
    config: Annotated[Path, typer.Argument(help="mmengine config with a MiCLViT.")],
    assignments: Overrides = None,
) -> None:
    """List each parameter of a dense task's model with its learning rate and weight decay.

    A row for each one that MiCLViTConstructor hands to the optimiser. The model is built with the
    config's checkpoint; data is not needed. Rates are those at the top of the schedule.
    """
    from micl_bench.openmmlab.layers import HEADER, layer_rows
    from micl_bench.runtime.terminal import table_text

    print(table_text(HEADER, layer_rows(config, assignments or [])))
