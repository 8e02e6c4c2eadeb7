"""The command of a record, read as data: what may be run again, and where it writes.

A record comes from anywhere. Its command is never given to a shell; only `micl-bench eval` and
`micl-bench pretrain` are run, with options that are known to read, and with another `--out`. What would
run code that a record chooses, a recipe file or a config's types, is refused unless it is one of ours
or the user names it.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from micl_bench.records.result import Result
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable

_READS = {
    "eval": (
        "--checkpoint",
        "--data",
        "--arch",
        "--format",
        "--branch",
        "--pixels",
        "--recipe",
        "--set",
        "--method",
        "--pretrain-name",
        "--pretrain-seed",
    ),
    "pretrain": ("--data", "--set", "--method"),
}
_SWITCHES = ("--strict",)
"""Options of `eval` without a value."""
_WRITES = "--out"
_LARGEST_COMMAND = 20_000
_DENSE = ("ade20k", "coco")
# mmengine builds whatever a config's words name: of strangers, numbers alone are taken.
_PLAIN = re.compile(r"[\s\[\](),.+\-0-9eE]*|True|False|None|true|false|null")


def rerun_arguments(
    result: Result, *, out: Path, place: Path, ours: Iterable[Path], recipe: Path | None = None
) -> list[str]:
    """What comes after `micl-bench` to run a record's command again.

    Args:
        out: absolute; takes the place of the record's own.
        place: the folder that the command's relative paths are below.
        ours: folders whose recipes may be run as they are.
        recipe: to run instead of the recipe that the command names.

    Raises:
        InputError: another command, an option that is not known to be harmless, or a recipe that is
            neither ours nor named by the user.
    """
    words = _words(result)
    command, arguments = words[0], words[1:]
    positional, options = _parsed(command, arguments, result)
    if command == "eval" and positional != result.task:
        raise _refusal(result, f"it evaluates {positional!r}, the record is of {result.task}")
    if sum(name == _WRITES for name, _ in options) != 1:
        raise _refusal(result, "it does not have exactly one --out")
    dense = command == "eval" and positional in _DENSE
    for value in (value for name, value in options if dense and name == "--set"):
        if not _PLAIN.fullmatch(value.partition("=")[2]):
            raise _refusal(
                result,
                f"--set {value!r} puts more than numbers into a config, which could name code",
            )
    named = positional if command == "pretrain" else dict(options).get("--recipe")
    if named is None and recipe is not None:
        raise InputError(f"record {result.id} was made without a recipe; leave --recipe out")
    chosen = str(recipe.resolve()) if recipe else named
    if named is not None and recipe is None:
        chosen = _of_ours(named, place, tuple(ours))
    changed = [(name, chosen if name == "--recipe" else value) for name, value in options]
    ends = {_WRITES: str(out)}
    first = chosen if command == "pretrain" else positional
    pairs = [(name, ends.get(name, value)) for name, value in changed]
    words = [
        word
        for name, value in pairs
        for word in ((name,) if name in _SWITCHES else (name, str(value)))
    ]
    return [command, str(first), *words]


def _words(result: Result) -> list[str]:
    if len(result.command) > _LARGEST_COMMAND:
        raise _refusal(result, f"it is longer than {_LARGEST_COMMAND:,} letters")
    try:
        words = shlex.split(result.command)
    except ValueError as error:
        raise _refusal(result, str(error)) from error
    if words[:1] != ["micl-bench"]:
        raise _refusal(result, "it does not begin with micl-bench")
    words = [word for word in words[1:2] if word != "--debug"] + words[2:]
    if not words or words[0] not in _READS:
        raise _refusal(result, "only micl-bench eval and micl-bench pretrain are run again")
    return words


def _parsed(
    command: str, arguments: list[str], result: Result
) -> tuple[str, list[tuple[str, str]]]:
    """The one positional argument, and options with their values, in order."""
    positional: list[str] = []
    options: list[tuple[str, str]] = []
    left = iter(arguments)
    for word in left:
        if not word.startswith("-"):
            positional.append(word)
            continue
        if command == "eval" and word in _SWITCHES:
            options.append((word, ""))
            continue
        name, equals, value = word.partition("=")
        if name not in (*_READS[command], _WRITES):
            raise _refusal(result, f"it has {name!r}, which {command} is not run again with")
        found = value if equals else next(left, None)
        if found is None:
            raise _refusal(result, f"{name} has no value")
        if name != "--set" and name in dict(options):
            raise _refusal(result, f"{name} is there twice")
        # A value that begins with a dash would be read as an option.
        if found.startswith("-"):
            raise _refusal(result, f"the value of {name} is {found!r}")
        options.append((name, found))
    if len(positional) != 1:
        raise _refusal(result, f"it has {len(positional)} arguments beside options, not one")
    return positional[0], options


def _of_ours(named: str, place: Path, ours: tuple[Path, ...]) -> str:
    """The recipe as the command names it where it is one of ours, by name or by path; ours where it is
    another checkout's of the same name, `downstream/x.py`, and nothing but ours is run."""
    path = place / named
    is_name = Path(named).name == named and not path.exists()
    if is_name and any((folder / f"{named}.py").is_file() for folder in ours):
        return named
    for folder in ours:
        if path.resolve().is_relative_to(folder.resolve()):
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


def _refusal(result: Result, why: str) -> InputError:
    shown = printable(result.command)
    shown = shown if len(shown) <= 300 else f"{shown[:300]}..."
    return InputError(
        f"the command of record {result.id} is not run again: {printable(why)} (it is: {shown})"
    )
