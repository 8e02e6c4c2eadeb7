"""`micl-bench pretrain` and `eval`: what makes records."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from micl_bench.cli.options import (
    Branch,
    Data,
    Init,
    Layout,
    Out,
    Overrides,
    Reading,
    Source,
    Strict,
    grouped,
)
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable, process_number

if TYPE_CHECKING:
    from micl_bench.records.result import Result


class ListsTasks(typer.core.TyperCommand):
    """A command whose help ends with the tasks, which are looked for when it is asked for."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the tasks."""
        try:
            rows = [f"  {name:10}  {text}" for name, text in plugins.names("tasks").items()]
        except InputError as error:
            # Help is given whatever plug-ins there are.
            rows = [f"  {error}"]
        # \b keeps click from joining the lines.
        self.epilog = "\b\n" + "\n".join(["Tasks:", *rows])
        super().format_epilog(ctx, formatter)


def pretrain(
    context: typer.Context,
    recipe: Annotated[
        Path, typer.Argument(help="Recipe: a name that `list recipes` shows, or a file.")
    ],
    data: Annotated[
        Path, typer.Option(help="Folder with train and val: class folders, or packed stores.")
    ],
    out: Out,
    assignments: Overrides = None,
    method: Annotated[
        str, typer.Option(help="Row name in tables; without one, the objective's.")
    ] = "",
    init: Init = None,
    layout: Layout = None,
    branch: Branch = None,
) -> None:
    """Pre-train a ViT; the result is <out>/backbone.pt. The same command goes on where it was cut.

    With --init the backbone starts from a checkpoint of any format; --format and --branch describe it.
    The backbone alone is taken: decoders, heads and momentum twins start anew. Its sizes must be the
    recipe's; its positions are brought to the recipe's input size as in evaluation, and stay fixed. The
    record names the trainings that the weights went through before.

    Started by torchrun, its processes share each batch. SIGTERM, SIGUSR1 or SIGUSR2 make it save,
    say so and leave with exit code 0.
    """
    import micl_bench

    result = micl_bench.pretrain(
        recipe,
        data=data,
        out=out,
        overrides=assignments or [],
        method=method,
        init=init,
        layout=layout,
        branch=branch,
        command=context.obj.command,
    )
    if process_number() == 0:
        print(f"record: {out / result.id}.json")


@grouped
def evaluate(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="One of the tasks listed below.")],
    checkpoint: Source,
    data: Data,
    out: Out,
    reading: Reading,
    strict: Strict = False,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe of the task: a name that `list recipes` shows, or a file; without one, the "
            "task's own values."
        ),
    ] = None,
    assignments: Overrides = None,
    method: Annotated[
        str, typer.Option(help="Row name in tables; without one, what the checkpoint says.")
    ] = "",
    pretrain_name: Annotated[
        str,
        typer.Option(
            help="State that the file is of the pre-training of this name, one of several that differ "
            "in their seed alone; for files that do not say it. Tables call it so.",
            show_default=False,
        ),
    ] = "",
    pretrain_seed: Annotated[
        int | None, typer.Option(help="That pre-training's seed.", show_default=False)
    ] = None,
) -> None:
    """Evaluate a checkpoint on a task; writes one JSON record per result into <out>.

    Started by torchrun, its processes share the work. What is only measured is the same, bit for bit;
    what trains agrees up to rounding. The same command goes on with a finetune, linear, ade20k or
    coco that was cut.
    """
    # An unknown task is said before torch is imported.
    plugins.find("tasks", task)
    import micl_bench

    results = micl_bench.evaluate(
        task,
        checkpoint,
        data=data,
        recipe=recipe,
        out=out,
        overrides=assignments or [],
        method=method,
        **dataclasses.asdict(reading),
        strict=strict,
        pretrain_name=pretrain_name,
        pretrain_seed=pretrain_seed,
        command=context.obj.command,
    )
    for result in results:
        print(_line(out / f"{result.id}.json", result))


def _line(path: Path, result: "Result") -> str:
    """A record's metrics with their intervals, on one line."""
    numbers = "  ".join(
        f"{name} {number.value:.2f}"
        + (" [{:.2f}, {:.2f}]".format(*number.interval) if number.interval else "")
        for name, number in result.metrics.items()
    )
    guesses = result.checkpoint.guesses
    assumed = f"  assumed: {', '.join(guesses)}" if guesses else ""
    words = f"{result.task}  {result.data.name}  {result.method}: {numbers}  ({path}){assumed}"
    return printable(words)
