"""`micl-bench suite`: many evaluations from one file."""

from pathlib import Path
from typing import Annotated

import typer

from micl_bench.commands.options import Out

app = typer.Typer(
    help="Run many evaluations from one declarative file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Keep `suite` a group whatever the number of its commands."""


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(help="Suite file, such as downstream/suites/*.yaml.", metavar="FILE")
    ],
    out: Out,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change what stands at the file's top, such as data; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands that are left to do; run none.")
    ] = False,
) -> None:
    """Run every evaluation of a suite file, each in a process of its own, and print their table.

    A run whose record is there already is skipped, so that the same command goes on after anything
    cut it; one that fails does not stop the others, and the exit code is 1 in the end.
    """
    import shlex

    from micl_bench.errors import InputError
    from micl_bench.suite.plan import read_suite
    from micl_bench.suite.runs import records_of, run_all
    from micl_bench.suite.table import table

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    runs = read_suite(file, out, assignments or [])
    if dry_run:
        left = [run for run in runs if not records_of(run)]
        print("\n".join(shlex.join(["micl-bench", *run.arguments]) for run in left))
        return
    outcomes = run_all(runs, out)
    print(table(outcomes))
    if any(outcome.problem for outcome in outcomes):
        raise SystemExit(1)
