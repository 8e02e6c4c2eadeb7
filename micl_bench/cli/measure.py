"""`micl-bench pretrain` and `eval`, the commands that make records."""

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
    """A command whose help ends with a list of the tasks, which are found when the help is printed."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the tasks."""
        try:
            found = plugins.usable("tasks", _declared)
            width = max(map(len, found))
            rows = [f"  {name:{width}}  {text}" for name, text in found.items()]
        except InputError as error:
            # Help is given whatever plug-ins there are.
            rows = [f"  {error}"]
        # \b keeps click from joining the lines.
        self.epilog = "\b\n" + "\n".join(["Tasks:", *rows])
        super().format_epilog(ctx, formatter)


def pretrain(
    context: typer.Context,
    recipe: Annotated[
        Path, typer.Argument(help="Recipe: a name of `micl-bench list recipes`, or a file.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with train and val, each of class folders or a packed store; or SOURCE:PLACE."
        ),
    ],
    out: Out,
    assignments: Overrides = None,
    method: Annotated[
        str, typer.Option(help="Name of the method in tables; the objective's if not given.")
    ] = "",
    init: Init = None,
    layout: Layout = None,
    branch: Branch = None,
) -> None:
    """Pre-train a ViT and write it to <out>/backbone.pt.

    After an interruption, the same command goes on from what it saved. SIGTERM, SIGUSR1 and SIGUSR2 make
    it save, say so and exit with 0. Several processes, started by torchrun, share each batch.

    With --init the backbone starts from a checkpoint of any format; --format and --branch describe it.
    Its sizes must be the recipe's. Its position embeddings are resampled to the recipe's input size, as
    in an evaluation, and stay fixed. The method's own modules (decoder, heads, momentum twin) start from
    the file's where it holds them in the recipe's sizes, else anew; a line says so. The record names the
    trainings that the weights went through before.
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
    task: Annotated[str, typer.Argument(help="One of the tasks that are listed below.")],
    checkpoint: Source,
    data: Data,
    out: Out,
    reading: Reading,
    strict: Strict = False,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe of the task: a name of `micl-bench list recipes`, or a file; the task's "
            "default values if not given."
        ),
    ] = None,
    assignments: Overrides = None,
    method: Annotated[
        str, typer.Option(help="Name of the method in tables; the checkpoint's if not given.")
    ] = "",
    pretrain_name: Annotated[
        str,
        typer.Option(
            help="State that the file comes from the pre-training of this name, one of several that "
            "differ only in their seed; for files that do not say so. Tables use the name.",
            show_default=False,
        ),
    ] = "",
    pretrain_seed: Annotated[
        int | None, typer.Option(help="Seed of that pre-training.", show_default=False)
    ] = None,
) -> None:
    """Evaluate a checkpoint on a task.

    It writes one JSON record per result into <out>, with the evidence beside it, and prints the metrics
    with their 95 % intervals. After an interruption, the same command goes on with finetune, linear,
    ade20k and coco; the other tasks start over.

    Several processes, started by torchrun, share the work. Tasks that train nothing give the same
    numbers, bit for bit; the others agree up to rounding.
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


def _declared(name: str) -> object:
    # Here: help that finds no plug-in from outside is there sooner.
    from micl_bench.tasks import declared

    return declared(name)


def _line(path: Path, result: "Result") -> str:
    """Return a record's metrics with their intervals, on one line."""
    numbers = "  ".join(
        f"{name} {number.value:.2f}"
        + (" [{:.2f}, {:.2f}]".format(*number.interval) if number.interval else "")
        for name, number in result.metrics.items()
    )
    guesses = result.checkpoint.guesses
    assumed = f"  assumed: {', '.join(guesses)}" if guesses else ""
    words = f"{result.task}  {result.data.name}  {result.method}: {numbers}  ({path}){assumed}"
    return printable(words)
