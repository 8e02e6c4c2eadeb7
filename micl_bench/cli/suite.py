"""`micl-bench suite`: many pre-trainings and evaluations from one file."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micl_bench.cli.options import grouped
from micl_bench.cli.slurm import Jobs
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable

if TYPE_CHECKING:
    from micl_bench.suites.runs import Runner

app = typer.Typer(
    help="Run many pre-trainings and evaluations from one declarative file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Keep `suite` a group whatever the number of its commands."""


@app.command()
@grouped
def run(
    context: typer.Context,
    jobs: Jobs,
    file: Annotated[
        Path,
        typer.Argument(
            help="Suite: a name that `micl-bench list suites` shows, or a file.", metavar="SUITE"
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
    only: Annotated[str, typer.Option(hidden=True, help="Key of the one run of a job.")] = "",
    slurm: Annotated[
        bool,
        typer.Option("--slurm", help="Queue the runs as array jobs of a Slurm cluster and return."),
    ] = False,
) -> None:
    """Run what is missing of a suite file, each run as its command would alone, and print a table.

    Runs go in order of what they need, and each is made once: where its command, its recipe's
    content (comments aside) or what it builds on changed, it is made anew beside the old one. The same
    command goes on after anything cut it. What fails stops only what needs it; then the exit code is 1.
    Several may work at one store at once, say one a GPU: each takes runs that no other has taken.

    With --slurm, all options from --logs on are of each job; a job is one machine and one run.
    """
    from micl_bench.suites.expand import expand
    from micl_bench.suites.file import read_file
    from micl_bench.suites.preflight import require_startable
    from micl_bench.suites.runs import Runner
    from micl_bench.suites.state import States
    from micl_bench.suites.tables import failures, shown_plan, table

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    _require_slurm(context, wanted=slurm and not dry_run)
    runs = expand(read_file(file, assignments or []))
    if dry_run:
        states = States(out, runs)
        require_startable([run for run in runs if states.of(run).word != "done"])
        print(shown_plan(file.stem, runs, out))
        return
    if slurm:
        words = ["suite", "run", str(file), "--out", str(out)]
        words += [word for text in assignments or [] for word in ("--set", text)]
        _submit(Runner(context.obj.run, file.stem, runs, out), words, jobs)
        return
    chosen = [run for run in runs if run.key == only]
    if only and not chosen:
        raise InputError(f"{file} has no such run any more; it, or a recipe, changed: submit again")
    # A job of a cluster does one run; all were looked at when they were submitted.
    first = None if only else require_startable
    runner = Runner(context.obj.run, file.stem, runs, out, chosen=chosen or None, first=first)
    outcomes = runner.run()
    print(table(outcomes))
    if any(outcome.problem for outcome in outcomes):
        again, _, _ = context.obj.command.partition(" --only ")
        print(f"\n{failures(outcomes, again)}")
        raise SystemExit(1)


def _require_slurm(context: typer.Context, *, wanted: bool) -> None:
    """Raise an InputError where an option of jobs is given and there are none."""
    names = [field.name for field in dataclasses.fields(Jobs)]
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given and not wanted:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{listed} belong to jobs: give --slurm too, and no --dry-run")


def _submit(runner: "Runner", words: list[str], jobs: Jobs) -> None:
    """Queue what is not done; `words` are the command that does a run, less `--only`."""
    resources = jobs.resources(cpus_per_task=jobs.cpus and jobs.cpus * max(1, jobs.gpus_per_node))
    from micl_bench.suites.cluster import ClusterTask, levels, submit_levels
    from micl_bench.suites.preflight import require_startable

    found = levels(runner.runs, runner.store)
    if not found:
        print("nothing to do")
        return
    require_startable([run for level in found for run in level])
    command = ClusterTask(runner.call, words, starts_processes=True)
    submitted = submit_levels(found, command, resources, logs=jobs.logs, requeues=jobs.requeues)
    runner.write_plan()
    for level, queued in zip(found, submitted, strict=True):
        for run, job in zip(level, queued, strict=True):
            print(printable(f"job {job.job_id}: {run.name}  (log: {job.logs[0]})"))
    arrays = dict.fromkeys(job.job_id.partition("_")[0] for queued in submitted for job in queued)
    names = " ".join(arrays)
    print(f"to stop them: scancel {names}; to see how far they are: the same with --dry-run")
