"""`micl-bench compare`, `explain` and `reproduce`: numbers tested, explained and made again."""

import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micl_bench.cli.options import Json, Out, write_json
from micl_bench.runtime.errors import InputError, Stopped

if TYPE_CHECKING:
    from micl_bench.records.result import Record

STORE = Path("work/results")
"""The folder in which records are looked for without --results."""

Target = Annotated[
    str,
    typer.Argument(
        metavar="RESULT",
        help="A record file, or the id of a record; the beginning of the id, or of its last ten "
        "letters, is enough.",
        show_default=False,
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        help="Folder of records in which ids are looked up, with the other runs of a record. If not "
        "given, the store that a record file lies in, or work/results.",
        show_default=False,
    ),
]


def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C ...]",
            help="A record file per method, or a folder with the records of its runs.",
            show_default=False,
        ),
    ],
    json_file: Json = None,
) -> None:
    """Test whether methods differ on the results that they share.

    Every pair is tested on each task, data set and metric that both have. With one run per method: on
    the evidence of each image beside the records, by McNemar's exact test or the paired bootstrap. With
    several: over the runs, by Welch's test; a seed that changes nothing makes no new run. P-values are
    adjusted by Holm's method for all tests of the call. Numbers are compared only where the protocol's
    fingerprint, the images and the training images are the same; for others a line says what differs.
    """
    import micl_bench
    from micl_bench.report.compare.comparison_output import comparison_text

    found = micl_bench.compare(*sources).attrs
    write_json(json_file, found)
    print(comparison_text(found))


def explain(target: Target, results: Results = None, json_file: Json = None) -> None:
    """Show everything behind one number, checked again.

    It shows the metrics with their intervals, computed again from the evidence of each image; the
    images; the checkpoint and its trainings; the recipe and settings with their digests; code,
    environment and time; the files beside the record, and whether each is the one that was written;
    published numbers with a verdict; and the command. RESULT may be the id of a published number too
    (published-...).
    """
    from micl_bench.records.published import read_references
    from micl_bench.report.audit.explain import as_text, explain_published, find
    from micl_bench.report.audit.explain import explain as evidence

    references = read_references()
    if target.startswith("published-"):
        found = explain_published(find(target, references, "published number"))
    else:
        found = evidence(*_looked_up(target, results), references)
    write_json(json_file, found)
    print(as_text(found))


def reproduce(
    target: Target,
    out: Out,
    results: Results = None,
    place: Annotated[
        Path,
        typer.Option(
            "--from",
            help="Folder in which the record's command was started, for its relative paths.",
        ),
    ] = Path(),
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe to run in place of the command's own, where that is not one of this "
            "installation. A recipe is code: look at it first.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes; more than one are started by torchrun.")
    ] = 1,
) -> None:
    """Run a record's command again and compare the results.

    The last line is the verdict. identical: every metric is the same to the last bit, and so is the
    evidence of each image. consistent: every metric lies in the record's interval. different: a metric
    does not. not comparable: something that moves the number is not as it was; it is named. The exit
    code is 0 for the first two, else 1.

    The command is the record's own, with another --out and the same number of threads. Start it in the
    folder in which the record's command was started, or give that folder as --from. Stored features are
    not used, but computed anew. After an interruption, the same command goes on where the run does.
    """
    from micl_bench.report.audit.command_again import rerun_arguments
    from micl_bench.report.audit.reproduction import compare_runs
    from micl_bench.runtime.log import printable, say
    from micl_bench.runtime.shipped import FOLDERS, recipe_file
    from micl_bench.suites.execute import Process, command_line
    from micl_bench.tasks import declared

    if not place.is_dir():
        raise InputError(f"--from {place} is no folder")
    recipe, out = recipe and recipe_file(recipe), out.resolve()
    then, _ = _looked_up(target, results)
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


def _looked_up(target: str, results: Path | None) -> "tuple[Record, list[Record]]":
    """Return the record that is meant, and all records of its store.

    Raises:
        InputError: there is no such record, there are several, or it is damaged.
    """
    from micl_bench.records.result import read_result
    from micl_bench.records.store import read_results
    from micl_bench.report.audit.explain import find

    file = Path(target)
    if file.is_file():
        return read_result(file), read_results(results or _store_of(file))
    records = read_results(results or STORE)
    return find(target, records, "record"), records


def _store_of(file: Path) -> Path:
    """Return the usual store or one of a suite, where the record lies in it; else its own folder."""
    from micl_bench.records.plans import PLANS_FOLDER

    if file.resolve().is_relative_to(STORE.resolve()):
        return STORE
    # A suite's runs lie three folders deep; further up, anything could be called so.
    above = file.resolve().parents[1:4]
    return next((one for one in above if any((one / PLANS_FOLDER).glob("*.json"))), file.parent)


def _require_new(out: Path, then: "Record", command: str) -> None:
    """Refuse a folder that holds another command's result, the record's own most of all."""
    from micl_bench.records.result import read_result

    task = then.task
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    # Killed after the repetition's record was written: that record is compared.
    strange = (path for path in out.glob(f"{task}-*.json") if read_result(path).command != command)
    if out == then.path.resolve().parent or any(strange):
        raise InputError(f"--out {out} holds a {task} result already; give another folder")


def _known_before(old: "Record", place: Path, processes: int) -> list[str]:
    """Name what is not as it was, before hours go by: code, packages, machine, checkpoint."""
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
    """Yield a cache with the downloads alone: stored features would be the record's own."""
    from micl_bench.runtime.files import cache_folder

    downloads = cache_folder().resolve() / "checkpoints"
    downloads.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cache-", dir=out) as cache:
        (Path(cache) / "checkpoints").symlink_to(downloads)
        yield cache


def _threads(then: "Record") -> dict[str, str]:
    """Return the environment variable for as many threads as then."""
    threads = then.environment.get("threads", "")
    return {"OMP_NUM_THREADS": threads} if threads.isdigit() and len(threads) < 5 else {}


def _repetition(out: Path, old: "Record") -> "Record":
    """Return the new record of the same task and set; one call of robustness writes several."""
    from micl_bench.records.result import read_result

    runs = [read_result(path) for path in sorted(out.glob(f"{old.task}-*.json"))]
    if not runs:
        raise Stopped("the run was stopped before its end; the same command goes on", signum=0)
    fitting = [run for run in runs if run.data.name == old.data.name or len(runs) == 1]
    if len(fitting) != 1:
        raise InputError(
            f"{out} holds {len(fitting)} {old.task} records on {old.data.name}, not one"
        )
    return fitting[0]
