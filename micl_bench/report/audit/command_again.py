"""The command of a record, read as data: what may be run again, and where it writes.

A record comes from anywhere. Its command is never given to a shell; only `micl-bench eval` and
`micl-bench pretrain` are run, with options that are known to read, and with another `--out`. What would
run code that a record chooses, a recipe file or a config's types, is refused unless it is one of ours
or the user names it.
"""

import argparse
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from micl_bench.records.result import Result
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable

_READS = {
    "eval": (
        *("--checkpoint", "--data", "--arch", "--format", "--branch", "--pixels", "--recipe"),
        *("--set", "--method", "--pretrain-name", "--pretrain-seed"),
    ),
    "pretrain": ("--data", "--set", "--method", "--init", "--format", "--branch"),
}
_LARGEST_COMMAND = 20_000
# mmengine builds whatever a config's words name: of strangers, numbers alone are taken.
_PLAIN = re.compile(r"[\s\[\](),.+\-0-9eE]*|True|False|None|true|false|null")


class _Parser(argparse.ArgumentParser):
    """Raises what it would end the process with."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def rerun_arguments(
    result: Result,
    *,
    from_config: bool,
    out: Path,
    place: Path,
    ours: Iterable[Path],
    recipe: Path | None = None,
) -> list[str]:
    """Return the words after `micl-bench` that run a record's command again.

    Args:
        from_config: whether the task's recipe is an mmengine config, as its declaration says.
        out: absolute; takes the place of the record's own.
        place: the folder that the command's relative paths are below.
        ours: folders whose recipes may be run as they are.
        recipe: the file to run instead of the recipe that the command names.

    Raises:
        InputError: another command, an option that is not known to be harmless, or a recipe that is
            neither ours nor named by the user.
    """
    try:
        command, first, options = _parsed(result, from_config=from_config)
    except ValueError as error:
        shown = printable(result.command)
        shown = shown if len(shown) <= 300 else f"{shown[:300]}..."
        raise InputError(
            f"the command of record {result.id} is not run again: {printable(str(error))} (it is: "
            f"{shown})"
        ) from error
    named = first if command == "pretrain" else next(iter(options["--recipe"]), None)
    if named is None and recipe is not None:
        raise InputError(f"record {result.id} was made without a recipe; leave --recipe out")
    if named is not None:
        chosen = str(recipe.resolve()) if recipe else _of_ours(named, place, tuple(ours))
        first = chosen if command == "pretrain" else first
        options |= {"--recipe": [chosen]} if command == "eval" else {}
    options["--out"] = [str(out)]
    words = [word for name, values in options.items() for one in values for word in (name, one)]
    return [command, first, *filter(None, words)]


def _parsed(result: Result, *, from_config: bool) -> tuple[str, str, dict[str, list[str]]]:
    """Return the command, its argument, and the values of each option; a switch has an empty one.

    Raises:
        ValueError: it is not run again; the message says why.
    """
    if len(result.command) > _LARGEST_COMMAND:
        raise ValueError(f"it is longer than {_LARGEST_COMMAND:,} letters")
    program, *words = shlex.split(result.command) or [""]
    if program != "micl-bench":
        raise ValueError("it does not begin with micl-bench")
    command, *words = words[words[:1] == ["--debug"] :] or [""]
    if command not in _READS:
        raise ValueError("only micl-bench eval and micl-bench pretrain are run again")
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("first")
    for name in ("--out", *_READS[command]):
        parser.add_argument(name, action="append", default=[], dest=name)
    if command == "eval":
        parser.add_argument(
            "--strict", action="append_const", const="", default=[], dest="--strict"
        )
    options = vars(parser.parse_args(words))
    first = options.pop("first")
    if several := [name for name, values in options.items() if len(values) > 1 and name != "--set"]:
        raise ValueError(f"{several[0]} is there twice")
    if not options["--out"]:
        raise ValueError("it has no --out")
    # A value that begins with a dash could be read as an option.
    for name, values in options.items():
        if odd := [value for value in values if value.startswith("-")]:
            raise ValueError(f"the value of {name} is {odd[0]!r}")
    if command == "eval" and first != result.task:
        raise ValueError(f"it evaluates {first!r}, the record is of {result.task}")
    for value in options["--set"] if from_config else ():
        if not _PLAIN.fullmatch(value.partition("=")[2]):
            raise ValueError(
                f"--set {value!r} puts more than numbers into a config, which could name code"
            )
    return command, first, options


def _of_ours(named: str, place: Path, ours: tuple[Path, ...]) -> str:
    """Return the recipe as the command names it, where it is one of ours by name or by path; where it is
    another checkout's, `downstream/x.py`, our own of that name. Nothing but ours is run."""
    path = place / named
    is_name = Path(named).name == named and not path.exists()
    if is_name and any((folder / f"{named}.py").is_file() for folder in ours):
        return named
    if any(path.resolve().is_relative_to(folder.resolve()) for folder in ours):
        return named
    for folder in ours:
        own = folder / path.name
        stays = path.parent.name == folder.name and own.resolve().is_relative_to(folder.resolve())
        if stays and own.is_file():
            return str(own)
    raise InputError(
        f"the record's command runs the recipe {printable(str(path))}, which is code and none of "
        "this installation's own; look at it, then name it: --recipe FILE"
    )
