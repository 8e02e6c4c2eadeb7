"""What a suite file must not say: a hostile or mistaken one is refused in one line."""

import contextlib
import itertools
import shlex
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.validate import one_line
from micl_bench.suites.entries import Entry, Given, Made

MADE = "made:"
_COMMANDS = (["data", "embedded"], ["data", "pack"])
_LONGEST_METHOD = 100
_LARGEST_SEED = 1 << 63


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Let no message of an InputError be longer than a person reads, whatever a file says."""
    try:
        yield
    except InputError as error:
        raise InputError(one_line(str(error))) from error


def check_stands_alone(content: Any, place: str) -> None:
    """Raise an InputError where a value is written as a reference to another one, or to a variable."""
    if isinstance(content, dict | list):
        inside = [*content, *content.values()] if isinstance(content, dict) else content
        for value in inside:
            check_stands_alone(value, place)
    elif isinstance(content, str) and "${" in content:
        raise InputError(f"{place}: {content!r} refers to something else; write the value itself")


def check_entry(entry: Entry, place: str) -> None:
    """Raise an InputError unless an entry can be carried out."""
    tasks = plugins.names("tasks")
    if entry.task not in tasks:
        raise InputError(f"{place} has task {entry.task!r}; known: {', '.join(tasks)}")
    if entry.of and (entry.checkpoints or entry.methods or entry.seeds):
        raise InputError(f"{place} has both `of` and checkpoints, methods or seeds; give one")
    if not entry.of and not entry.checkpoints:
        raise InputError(f"{place} has no checkpoint")
    if unknown := set(entry.methods) - set(entry.checkpoints):
        known = ", ".join(entry.checkpoints)
        raise InputError(f"{place} has method {min(unknown)!r}; checkpoints: {known}")
    for name in entry.checkpoints:
        check_method(name, place)
    if len(set(entry.seeds)) < len(entry.seeds):
        raise InputError(f"{place} has seeds {entry.seeds}; give each once")
    if not all(isinstance(checkpoint, str | dict) for checkpoint in entry.checkpoints.values()):
        raise InputError(f"{place}: a checkpoint is a word, or a mapping with recipe and data")
    _check_words([entry.name, entry.data, entry.recipe, *entry.checkpoints], place)
    _check_words([*entry.overrides, *entry.of, *_words_of(entry.matrix)], place)


def check_given(given: Given, place: str) -> None:
    """Raise an InputError where a checkpoint's name could be anything else."""
    check_method(given.method or "-", place)
    if bool(given.checkpoint) == bool(given.files):
        raise InputError(f"{place} is empty; give a checkpoint, or files, one for each seed")
    if strange := [seed for seed in given.files if not _is_seed(seed)]:
        raise InputError(
            f"{place}: files has the seed {strange[0]!r}; write files: {{0: FILE, 1: FILE}}"
        )
    if len({int(seed) for seed in given.files}) < len(given.files):
        raise InputError(f"{place}: files has a seed twice")
    if len(set(given.files.values())) < len(given.files):
        raise InputError(f"{place}: files has one file for two seeds")
    formats = plugins.names("checkpoints")
    if given.format and given.format not in formats:
        raise InputError(f"{place} has format {given.format!r}; known: {', '.join(formats)}")
    words = [given.checkpoint, *given.files.values()]
    whole = [word for word in words if word.partition(":")[0] in ("random", "timm")]
    reading = (given.arch, given.format, given.branch, given.pixels)
    if whole and (given.files or any(reading)):
        raise InputError(f"{place}: {whole[0]} takes no files, arch, format, branch or pixels")
    if not all(words[1:]):
        raise InputError(f"{place}: files has a seed without a file")
    _check_words([*words, given.method, *reading], place)


def check_root(data_root: Any, place: str) -> str:
    """The folder that relative data folders lie in."""
    if not isinstance(data_root, str):
        raise InputError(f"{place}: data_root must be a folder's name")
    _check_words([data_root], place)
    return data_root


def check_made(made: Made, place: str) -> None:
    """Raise an InputError unless a checkpoint's pre-training can be carried out."""
    check_method(made.method or "-", place)
    _check_words([made.recipe, made.data, made.method, *made.overrides], place)
    _check_words(_words_of(made.one_at_a_time), place)


def check_prepared(prepare: Any, place: str) -> dict[str, list[str]]:
    """Steps that make data, by name, as words; raises an InputError for any other command."""
    if not isinstance(prepare, dict):
        raise InputError(f"{place}: prepare must be a mapping of names to commands")
    found: dict[str, list[str]] = {}
    for name, command in prepare.items():
        where = f"{place}, prepare {str(name)!r}"
        if not isinstance(command, str) or not isinstance(name, str) or "/" in name:
            raise InputError(f"{where}: give a name without '/', and a command as one text")
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
        if words[:2] not in _COMMANDS:
            known = " or ".join(" ".join(known) for known in _COMMANDS)
            raise InputError(f"{where} is {command!r}; it must begin with {known}")
        if any(word.partition("=")[0] == "--out" for word in words):
            raise InputError(f"{where}: leave --out away, the suite chooses the folder")
        if joined := [word for word in words if word.startswith("--") and "=" in word]:
            raise InputError(f"{where}: write {joined[0].replace('=', ' ', 1)!r}, without '='")
        # Options begin with a dash here.
        _check_words([name, *(word.lstrip("-") for word in words)], where)
        found[name] = words
    return found


def split_made(word: str, place: str) -> tuple[str, str]:
    """`made:STEP/FOLDER` as step and folder below it; raises an InputError where it leads out."""
    step, _, below = word.removeprefix(MADE).partition("/")
    parts = PurePosixPath(below).parts
    if not step or ".." in parts or below.startswith("/"):
        raise InputError(f"{place}: {word!r} is not of the form made:STEP or made:STEP/FOLDER")
    return step, below


def check_method(method: str, place: str) -> None:
    """Raise an InputError of a method's name that no command would take."""
    if not method or len(method) > _LONGEST_METHOD:
        raise InputError(
            f"{place}: a method's name has 1 to {_LONGEST_METHOD} letters, this one {len(method)}"
        )


def _words_of(mapping: dict[str, list[Any]]) -> Iterable[str]:
    return itertools.chain(mapping, (str(v) for values in mapping.values() for v in values))


def _check_words(words: Iterable[str], place: str) -> None:
    for word in words:
        # A leading dash would be taken for an option.
        if word.startswith("-") and not _is_number(word):
            raise InputError(f"{place}: {word!r} begins with a dash, as options do")
        if not word.isprintable():
            raise InputError(f"{place}: {word!r} has a character that cannot be printed")


def _is_seed(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < _LARGEST_SEED


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
