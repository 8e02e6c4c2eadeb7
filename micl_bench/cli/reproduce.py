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
    from micl_bench.records.result import Result
    from micl_bench.report.audit.explain import Run

_CACHE = ".reproduce-cache"
"""It is removed in the end, so no folder of the user's may be called so."""


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
    from micl_bench.suites.process import Process, command_line

    if not place.is_dir():
        raise InputError(f"--from {place} is no folder")
    recipe = recipe and recipe_file(recipe)
    then, _ = look_up(target, results)
    target_folder = out.resolve()
    arguments = rerun_arguments(
        then[1], out=target_folder, place=place, ours=FOLDERS, recipe=recipe
    )
    _require_new(target_folder, then, shlex.join(["micl-bench", *arguments]))
    _tell_before(then[1], place, processes)
    say(f"{printable(then[1].id)}\n  {printable(shlex.join(['micl-bench', *arguments]))}")
    with _own_cache(target_folder) as cache:
        command, environment = command_line(arguments, processes), _environment(then[1], cache)
        # It has this terminal, so that its progress is seen as it goes.
        with Process(command, cwd=place, environment=environment) as process:
            code = process.wait()
    if code:
        raise InputError(f"the command failed with exit code {code}; its own message stands above")
    found = compare_runs(then, _repetition(target_folder, then))
    print("\n".join(printable(line) for line in found.describe()))
    if not found.is_reproduced:
        raise SystemExit(1)


def _require_new(out: Path, then: "Run", command: str) -> None:
    """Refuse a folder that holds another command's result, the record's own most of all."""
    from micl_bench.records.result import read_result
    from micl_bench.runtime.errors import InputError

    task = then[1].task
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    # Killed after the repetition's record was written: that record is compared.
    strange = (path for path in out.glob(f"{task}-*.json") if read_result(path).command != command)
    if out == then[0].resolve().parent or any(strange):
        raise InputError(f"--out {out} holds a {task} result already; give another folder")


def _tell_before(old: "Result", place: Path, processes: int) -> None:
    """Say, before hours go by, what is known not to be as it was."""
    from micl_bench.records.provenance import code_version, environment
    from micl_bench.runtime.files import digest_file
    from micl_bench.runtime.log import printable, say

    then, now = {"code": old.code_version, **old.environment}, {"code": code_version()}
    # The threads will be as many as then.
    now |= environment() | {"threads": then.get("threads", "none")}
    lines = [
        f"{name}: then {then.get(name, 'none')}, now {now.get(name, 'none')}"
        for name in dict.fromkeys((*then, *now))
        if then.get(name) != now.get(name)
    ]
    file = place / old.checkpoint.source
    if old.task != "pretrain" and file.is_file() and digest_file(file) != old.checkpoint.digest:
        lines.append(f"checkpoint: {file} has another SHA-256 than then")
    made_by = old.details.get("processes")
    if isinstance(made_by, int) and made_by != processes:
        lines.append(
            f"processes: then {made_by}, now {processes} (--processes); what trains agrees up to "
            "rounding only"
        )
    for line in lines:
        say(printable(f"not as it was: {line}"))


@contextlib.contextmanager
def _own_cache(out: Path) -> Iterator[Path]:
    """A cache without features, which would be those that the record was made of; with downloads."""
    import shutil

    from micl_bench.runtime.files import cache_folder

    cache, downloads = out / _CACHE, cache_folder().resolve() / "checkpoints"
    cache.mkdir(parents=True, exist_ok=True)
    downloads.mkdir(parents=True, exist_ok=True)
    link = cache / "checkpoints"
    if not link.is_symlink():
        link.symlink_to(downloads)
    try:
        yield cache
    finally:
        link.unlink(missing_ok=True)
        shutil.rmtree(cache, ignore_errors=True)


def _environment(then: "Result", cache: Path) -> dict[str, str]:
    """As many threads as then."""
    threads = then.environment.get("threads", "")
    same = {"OMP_NUM_THREADS": threads} if threads.isdigit() and len(threads) < 5 else {}
    return {**os.environ, "MICL_BENCH_CACHE": str(cache), **same}


def _repetition(out: Path, then: "Run") -> "Run":
    """The new record of the same task and set; one call of robustness writes several."""
    from micl_bench.records.result import read_result
    from micl_bench.runtime.errors import InputError, Stopped

    old = then[1]
    runs = [(path, read_result(path)) for path in sorted(out.glob(f"{old.task}-*.json"))]
    if not runs:
        raise Stopped("the run was stopped before its end; the same command goes on", signum=0)
    fitting = [run for run in runs if run[1].data.name == old.data.name]
    if len(fitting) == 1:
        return fitting[0]
    if len(runs) == 1:
        return runs[0]
    raise InputError(f"{out} holds {len(fitting)} {old.task} records on {old.data.name}, not one")
