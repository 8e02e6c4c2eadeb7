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
    help="Run many pre-trainings and evaluations from one file.",
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
        typer.Option(
            help="The store, with a folder per run. Several suites may share one, also at the same time."
        ),
    ],
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a value at the top of the file, such as data; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show which runs are done, which are left and why; run nothing."
        ),
    ] = False,
    only: Annotated[str, typer.Option(hidden=True, help="Key of the one run of a job.")] = "",
    slurm: Annotated[
        bool,
        typer.Option(
            "--slurm", help="Queue the runs as array jobs of a Slurm cluster, and return."
        ),
    ] = False,
) -> None:
    """Run all runs of a suite file that are not done yet.

    Each run gives what its command gives by itself, and is made after the runs that it needs; at the
    end a table is printed. A run that is done is not repeated. When its command, the content of its
    recipe (comments aside) or a run that it needs changes, it is made again beside the old one. After an
    interruption, the same command goes on where it was. A run that fails stops only the runs that need
    it; the exit code is then 1. Several commands may work on one store at the same time, for instance
    one per GPU: each takes the runs that no other has taken.

    With --slurm, each run is a job on one machine; --logs, --minutes, --gpus-per-node, --cpus-per-gpu,
    --partition, --account, --sbatch, --requeues and --warn-seconds are options of each job.
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
    """Raise an InputError where an option of jobs is given and nothing is queued."""
    names = [field.name for field in dataclasses.fields(Jobs)]
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given and not wanted:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{listed} belong to jobs: give --slurm too, and no --dry-run")


def _submit(runner: "Runner", words: list[str], jobs: Jobs) -> None:
    """Queue the runs that are not done; `words` are the command that does one, without `--only`."""
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
