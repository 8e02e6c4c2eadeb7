"""`micl-bench data`: make data sets."""

from typing import Annotated

import typer

from micl_bench.commands.options import Out

app = typer.Typer(help="Make data sets.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def embedded(
    out: Out,
    seed: Annotated[int, typer.Option(help="Of the split and of every drawing.")] = 0,
) -> None:
    """Make the embedded data set: scikit-learn's digits in the formats of ImageNet, ADE20K, COCO."""
    from micl_bench.data.embedded import write_embedded
    from micl_bench.log import Progress

    with Progress("embedded data", total=6) as progress:

        def part_started(part: str, done: int, total: int) -> None:
            progress.total = total
            while progress.done < done:
                progress.step(part)

        write_embedded(out, seed=seed, progress=part_started)
    print(f"embedded data: {out}")
