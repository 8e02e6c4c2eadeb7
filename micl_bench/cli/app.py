"""The command line. It parses, then imports the one module it needs: help never waits for torch."""

import dataclasses
import re
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from micl_bench import __version__
from micl_bench.cli import audit, bench, checkpoint, data, doctor, measure, show, slurm, suite
from micl_bench.cli.listing import KINDS, listing_of
from micl_bench.cli.options import Out
from micl_bench.data.image_files import name_text
from micl_bench.runtime.errors import InputError, Stopped
from micl_bench.runtime.log import printable, process_number
from micl_bench.runtime.processes import explained, guard_imports, guard_interrupts
from micl_bench.runtime.streams import lost_output, secure_streams

app = typer.Typer(
    help="Pre-train Vision Transformers with MiCL, and put any self-supervised ViT through the same "
    "evaluations.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(show.app, name="show")
app.add_typer(suite.app, name="suite")


@dataclasses.dataclass(frozen=True)
class _Call:
    """The program that a command is part of, as the command sees it: commands do not import it."""

    command: str
    """The command line as it was typed, for records."""
    run: Callable[..., None]
    """The function `run`, for jobs that run another command later."""


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a stack trace when something fails.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    # Read by `main`, before parsing can fail.
    del debug, version


@app.command()
def demo(
    context: typer.Context,
    workdir: Annotated[
        Path, typer.Option(help="Folder for the data, the results and the report.")
    ] = Path("work/demo"),
) -> None:
    """Run the whole benchmark once on small embedded data.

    It runs the suite `embedded`, which pre-trains a ViT and evaluates it, and makes a report. This takes
    some minutes on a CPU. Runs that are done are skipped: after an interruption, the same command goes
    on where it was.
    """
    from micl_bench.cli.demo import run_demo

    run_demo(context.obj.run, workdir, command=context.obj.command)


app.command("pretrain")(measure.pretrain)
app.command("eval", cls=measure.ListsTasks)(measure.evaluate)


@app.command()
def report(
    out: Out,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder with result records, at any depth. Without it, only the tables of published "
            "numbers are written, as Markdown.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Turn result records into tables, figures and report.html."""
    import micl_bench
    from micl_bench.report import write_published

    if results:
        print(f"report: {micl_bench.report(results, out)}")
    else:
        print(*write_published(out), sep="\n")


@app.command("list")
def list_kind(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.")],
) -> None:
    """List the entries of one kind, with a line on each."""
    print(listing_of(kind))


app.command("doctor")(doctor.doctor)
app.command("inspect")(checkpoint.inspect)
app.command("convert")(checkpoint.convert)
app.command("features")(checkpoint.features)
app.command("compare")(audit.compare)
app.command("explain")(audit.explain)
app.command("reproduce")(audit.reproduce)
# Options end where the submitted command begins, with or without a `--`.
app.command("slurm", context_settings={"allow_interspersed_args": False})(slurm.slurm)


_INTERRUPTED = 130
_UNDECODED = re.compile(r"[\ud800-\udfff]")
"""Code points that stand for the bytes of a command line that are not UTF-8."""


def invoke(arguments: list[str]) -> None:
    """Run one command of this program in this process, and return when it has ended.

    Raises:
        InputError: the input is bad. A wrong option raises Typer's own error, with `format_message`.
        KeyboardInterrupt: the command was interrupted.
    """
    # A record could not hold its command.
    if strange := [word for word in arguments if _UNDECODED.search(word)]:
        raise InputError(
            f"{name_text(strange[0])} is not valid UTF-8; rename it, or give the name of a link to it"
        )
    command = shlex.join(["micl-bench", *arguments])
    code = app(arguments, prog_name="micl-bench", standalone_mode=False, obj=_Call(command, run))
    if code == _INTERRUPTED:
        # Typer turns an interrupt into a return value; a caller must not take it for success.
        raise KeyboardInterrupt


def main() -> None:
    """Run the command of `sys.argv`; exit with 0, 2 for bad input, 1 for a defect, 130 if interrupted.

    A run that a signal asked to stop, and that has saved, exits with 0.
    """
    secure_streams()
    guard_imports()
    guard_interrupts()
    run(sys.argv[1:])


def run(
    arguments: list[str],
    *,
    on_stop: Callable[[Stopped], None] | None = None,
    trace_defects: bool = False,
) -> None:
    """Run one command as `main` does.

    Args:
        on_stop: called before a run exits that a signal asked to stop, and that has saved.
        trace_defects: raise a defect, for its stack trace; bad input stays one line.
    """
    try:
        _require_working_folder()
        invoke(arguments)
        if reason := lost_output():
            raise InputError(f"standard output cannot be written: {reason}")
    except Stopped as stop:
        if on_stop:
            on_stop(stop)
        _leave(str(stop), 0)
    except (KeyboardInterrupt, typer.Abort):
        _leave(
            "interrupted; called again, pretrain, data pack, demo, suite run, and eval finetune, "
            "linear, ade20k and coco go on from what they saved, and so does their reproduce; others "
            "start over",
            _INTERRUPTED,
        )
    except (InputError, OSError) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        _leave(f"error: {error}", 2)
    except Exception as error:
        # Typer's errors derive from click's or from a copy of its own, by version; both have this.
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error)
            sys.exit(2)
        if hasattr(error, "format_message"):
            _leave(f"error: {error.format_message()} (micl-bench --help)", 2)
        if "--debug" in arguments:
            raise
        if reason := explained(error):
            _leave(f"error: {reason}", 2)
        if trace_defects:
            raise
        name = type(error).__name__
        _leave(f"internal error: {name}: {error} (micl-bench --debug ... shows where)", 1)


def _require_working_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise InputError(
            "the working folder is no longer there; change to one that is, and call again"
        ) from error


def _leave(message: str, code: int) -> NoReturn:
    # One line, whatever the libraries below wrote into theirs.
    number = process_number()
    line = printable(" ".join(message.split()))
    print(f"process {number}: {line}" if number else line, file=sys.stderr)
    sys.exit(code)
