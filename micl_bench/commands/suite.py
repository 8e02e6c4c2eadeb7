"""`micl-bench suite`: many pre-trainings and evaluations from one file."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Run many pre-trainings and evaluations from one declarative file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Keep `suite` a group whatever the number of its commands."""


@app.command()
def run(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            help="Suite file, such as those that `micl-bench list suites` shows.", metavar="FILE"
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="The store: a folder for each run. Suites may share one, also at once."),
    ],
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change what stands at the file's top, such as data; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what is done, what is left and why; run nothing."),
    ] = False,
) -> None:
    """Run what is missing of a suite file, each run in a process of its own, and print a table.

    Runs go in order of what they need, and each is made once: where its command, its recipe's
    content (comments aside) or what it builds on changed, it is made anew beside the old one. The same
    command goes on after anything cut it. What fails stops only what needs it; then the exit code is 1.
    """
    from micl_bench.errors import InputError
    from micl_bench.suite.expand import expand
    from micl_bench.suite.file import read_file
    from micl_bench.suite.runs import Runner
    from micl_bench.suite.shown import failures, shown_plan
    from micl_bench.suite.table import table

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    runs = expand(read_file(file, assignments or []))
    if dry_run:
        print(shown_plan(file.stem, runs, out))
        return
    outcomes = Runner(file.stem, runs, out).run()
    print(table(outcomes))
    if any(outcome.problem for outcome in outcomes):
        print(f"\n{failures(outcomes, context.obj.command)}")
        raise SystemExit(1)
