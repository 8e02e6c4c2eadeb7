"""`micl-bench reproduce`: run a record's command again, and say whether the number came out."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micl_bench.cli.explain import Results, Target, look_up
from micl_bench.cli.options import Out

if TYPE_CHECKING:
    from micl_bench.records.result import Record


def reproduce(
    target: Target,
    out: Out,
    results: Results = None,
    place: Annotated[
        Path,
        typer.Option("--from", help="Folder that the command's relative paths start from."),
    ] = Path(),
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe to run for the one that the command names, where that is not one of this "
            "installation: a recipe is code, so look at it first.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes to start with torchrun; 1 without it.")
    ] = 1,
) -> None:
    """Run the command that made a record again, in another folder, and give the verdict.

    identical: every metric to the last bit, and the evidence of each image. consistent: every metric
    within the record's interval. different: not so. not comparable: something that moves the number
    is not as it was, and is named. Exit code 0 for the first two, else 1.

    The command is as the record has it, but for --out. Its relative paths mean what they meant in the
    folder it was started in: start there, or give that folder as --from. It gets as many threads as
    then. What neither command line nor record tells is not repeated: torchrun's processes (--processes).
    Stored features are not used: they are computed anew. Cut, the same command goes on where the run
    itself does.
    """
    from micl_bench.report.audit.command_again import rerun_arguments
    from micl_bench.report.audit.reproduction import compare_runs
    from micl_bench.runtime.errors import InputError
    from micl_bench.runtime.log import printable, say
    from micl_bench.runtime.shipped import FOLDERS, recipe_file
    from micl_bench.suites.commands import Process, command_line
    from micl_bench.tasks import declared

    if not place.is_dir():
        raise InputError(f"--from {place} is no folder")
    recipe, out = recipe and recipe_file(recipe), out.resolve()
    then, _ = look_up(target, results)
    arguments = rerun_arguments(
        then,
        from_config=declared(then.task).from_config,
        out=out,
        place=place,
        ours=FOLDERS,
        recipe=recipe,
    )
    command = shlex.join(["micl-bench", *arguments])
    _require_new(out, then, command)
    for line in _known_before(then, place, processes):
        say(printable(f"not as it was: {line}"))
    say(f"{printable(then.id)}\n  {printable(command)}")
    with _cache_without_features(out) as cache:
        environment = os.environ | {"MICL_BENCH_CACHE": cache} | _threads(then)
        # It has this terminal, so that its progress is seen as it goes.
        start = command_line(arguments, processes)
        with Process(start, cwd=place, environment=environment) as process:
            code = process.wait()
    if code:
        raise InputError(f"the command failed with exit code {code}; its own message stands above")
    found = compare_runs(then, _repetition(out, then))
    print("\n".join(printable(line) for line in found.describe()))
    if not found.is_reproduced:
        raise SystemExit(1)


def _require_new(out: Path, then: "Record", command: str) -> None:
    """Refuse a folder that holds another command's result, the record's own most of all."""
    from micl_bench.records.result import read_result
    from micl_bench.runtime.errors import InputError

    task = then.task
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    # Killed after the repetition's record was written: that record is compared.
    strange = (path for path in out.glob(f"{task}-*.json") if read_result(path).command != command)
    if out == then.path.resolve().parent or any(strange):
        raise InputError(f"--out {out} holds a {task} result already; give another folder")


def _known_before(old: "Record", place: Path, processes: int) -> list[str]:
    """What is known, before hours go by, not to be as it was."""
    from micl_bench.records.provenance import code_version, environment
    from micl_bench.report.audit.reproduction import changed
    from micl_bench.runtime.files import digest_file

    file, was = place / old.checkpoint.source, old.details.get("processes", processes)
    then = {"code": old.code_version, **old.environment, "processes": str(was)}
    # The threads will be as many as then.
    now = {"code": code_version(), **environment(), "threads": then.get("threads", "")}
    now["processes"] = f"{processes} (--processes)" if was != processes else str(was)
    if old.task != "pretrain" and file.is_file():
        then["SHA-256 of the checkpoint"] = old.checkpoint.digest
        now["SHA-256 of the checkpoint"] = digest_file(file)
    return changed(then, now)


@contextlib.contextmanager
def _cache_without_features(out: Path) -> Iterator[str]:
    """A cache with the downloads alone: stored features would be those that the record was made of."""
    import tempfile

    from micl_bench.runtime.files import cache_folder

    downloads = cache_folder().resolve() / "checkpoints"
    downloads.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cache-", dir=out) as cache:
        (Path(cache) / "checkpoints").symlink_to(downloads)
        yield cache


def _threads(then: "Record") -> dict[str, str]:
    """As many threads as then."""
    threads = then.environment.get("threads", "")
    return {"OMP_NUM_THREADS": threads} if threads.isdigit() and len(threads) < 5 else {}


def _repetition(out: Path, old: "Record") -> "Record":
    """The new record of the same task and set; one call of robustness writes several."""
    from micl_bench.records.result import read_result
    from micl_bench.runtime.errors import InputError, Stopped

    runs = [read_result(path) for path in sorted(out.glob(f"{old.task}-*.json"))]
    if not runs:
        raise Stopped("the run was stopped before its end; the same command goes on", signum=0)
    fitting = [run for run in runs if run.data.name == old.data.name or len(runs) == 1]
    if len(fitting) != 1:
        raise InputError(
            f"{out} holds {len(fitting)} {old.task} records on {old.data.name}, not one"
        )
    return fitting[0]
