"""The declarations of a suite file, with their checks: a mistake or malice is refused in one line."""

import contextlib
import dataclasses
import itertools
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from msgspec import Meta

from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.validate import one_line

MADE = "made:"
_COMMANDS = (["data", "embedded"], ["data", "pack"])
_LONGEST_METHOD = 100
_LARGEST_SEED = (1 << 63) - 1

PlainWord = Annotated[str, Meta(description="a word (in quotes, if it looks like something else)")]
Override = Annotated[str, Meta(pattern="=", description="a text of the form a.b=value")]
Seed = Annotated[int, Meta(ge=0, le=_LARGEST_SEED, description="a whole number from 0 to 2^63 - 1")]
Processes = Annotated[
    int, Meta(ge=1, le=1024, description="a whole number from 1 to 1,024, all on one machine")
]
Scalar = str | int | float | bool
Value = Annotated[Scalar | list[Scalar], Meta(description="a word or a number")]
Tried = Annotated[list[Value], Meta(min_length=1, description="a list of words or numbers")]


@dataclasses.dataclass(kw_only=True)
class Given:
    """A checkpoint that is there, or several that differ in the seed of their pre-training alone."""

    checkpoint: PlainWord = ""
    """A file, `timm:NAME`, `public:NAME` or `random:ARCH`."""
    files: dict[str, PlainWord] = dataclasses.field(default_factory=dict)
    """Instead of one: seed to file, of one pre-training, as `eval --pretrain-seed` states it."""
    method: PlainWord = ""
    """The name of the method in tables; the checkpoint's name in the suite file if empty."""
    arch: PlainWord = ""
    """The value of `eval --arch`; `format`, `branch` and `pixels` likewise."""
    format: PlainWord = ""
    branch: PlainWord = ""
    pixels: PlainWord = ""
    strict: bool = False
    """Refuse it where something would have to be assumed; the entry's value if left out."""

    def __post_init__(self) -> None:
        check_method(self.method or "-")
        if bool(self.checkpoint) == bool(self.files):
            raise InputError("it is empty; give a checkpoint, or files, one for each seed")
        if strange := [seed for seed in self.files if not _is_seed(seed)]:
            raise InputError(
                f"files has the seed {strange[0]!r}; write files: {{0: FILE, 1: FILE}}"
            )
        if len({int(seed) for seed in self.files}) < len(self.files):
            raise InputError("files has a seed twice")
        if len(set(self.files.values())) < len(self.files):
            raise InputError("files has one file for two seeds")
        if not all(self.files.values()):
            raise InputError("files has a seed without a file")
        formats = plugins.names("checkpoints")
        if self.format and self.format not in formats:
            raise InputError(f"it has format {self.format!r}; known: {', '.join(formats)}")
        words = [self.checkpoint, *self.files.values()]
        whole = [word for word in words if word.partition(":")[0] in ("random", "timm")]
        reading = (self.arch, self.format, self.branch, self.pixels)
        if whole and (self.files or any(reading)):
            raise InputError(f"{whole[0]} takes no files, arch, format, branch or pixels")
        _check_words([*words, self.method, *reading])


@dataclasses.dataclass(kw_only=True)
class Made:
    """A checkpoint that the suite pre-trains."""

    recipe: PlainWord
    data: PlainWord
    method: PlainWord = ""
    overrides: list[Override] = dataclasses.field(default_factory=list)
    one_at_a_time: dict[str, Tried] = dataclasses.field(default_factory=dict)
    """Key of the recipe to the values that replace its own, each in a pre-training of its own."""
    processes: Processes = 1
    """The entry's number if left out."""

    def __post_init__(self) -> None:
        check_method(self.method or "-")
        _check_words([self.recipe, self.data, self.method, *self.overrides])
        _check_words(_words_of(self.one_at_a_time))


@dataclasses.dataclass(kw_only=True)
class Entry:
    """Evaluations that share a task."""

    name: PlainWord
    """The name in the table, and for `of`."""
    task: PlainWord
    data: PlainWord
    """A folder, or `made:STEP/FOLDER` for what a step of `prepare` made."""
    checkpoints: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Name to checkpoint: a word, or a mapping with the keys of `Given` or `Made`."""
    methods: list[PlainWord] = dataclasses.field(default_factory=list)
    """The checkpoints that are evaluated; all if empty."""
    of: list[PlainWord] = dataclasses.field(default_factory=list)
    """Names of earlier entries whose runs' classifiers take the place of checkpoints."""
    recipe: PlainWord = ""
    overrides: list[Override] = dataclasses.field(default_factory=list)
    """`a.b=value` for each run, as `--set` takes them."""
    matrix: dict[str, Tried] = dataclasses.field(default_factory=dict)
    """Key to the values that are tried."""
    seeds: list[Seed] = dataclasses.field(default_factory=list)
    processes: Processes = 1
    """Started by torchrun where they are more than one."""
    strict: bool = False
    """Refuse checkpoints where something would have to be assumed."""

    def __post_init__(self) -> None:
        tasks = plugins.names("tasks")
        if self.task not in tasks:
            raise InputError(f"it has task {self.task!r}; known: {', '.join(tasks)}")
        if self.of and (self.checkpoints or self.methods or self.seeds):
            raise InputError("it has both `of` and checkpoints, methods or seeds; give one")
        if not self.of and not self.checkpoints:
            raise InputError("it has no checkpoint")
        if unknown := set(self.methods) - set(self.checkpoints):
            known = ", ".join(self.checkpoints)
            raise InputError(f"it has method {min(unknown)!r}; checkpoints: {known}")
        for name in self.checkpoints:
            check_method(name)
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"it has seeds {self.seeds}; give each once")
        if not all(isinstance(checkpoint, str | dict) for checkpoint in self.checkpoints.values()):
            raise InputError("a checkpoint is a word, or a mapping with recipe and data")
        _check_words([self.name, self.data, self.recipe, *self.checkpoints])
        _check_words([*self.overrides, *self.of, *_words_of(self.matrix)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteFile:
    """A suite file, checked as far as that can be without looking at anything it names."""

    path: Path
    prepare: dict[str, list[str]]
    """Name of a step to the words of its command, without `--out`."""
    data_root: str
    entries: list[Entry]


@contextlib.contextmanager
def in_one_line(place: str = "") -> Iterator[None]:
    """Put a place before each InputError; none is longer than a person reads, whatever a file says."""
    try:
        yield
    except InputError as error:
        raise InputError(one_line(f"{place}: {error}" if place else str(error))) from error


def check_stands_alone(content: Any) -> None:
    """Raise an InputError where a value is written as a reference to another one, or to a variable."""
    if isinstance(content, dict | list):
        inside = [*content, *content.values()] if isinstance(content, dict) else content
        for value in inside:
            check_stands_alone(value)
    elif isinstance(content, str) and "${" in content:
        raise InputError(f"{content!r} refers to something else; write the value itself")


def check_root(data_root: Any) -> str:
    """Return the folder that relative data folders lie in; raises an InputError for another value."""
    if not isinstance(data_root, str):
        raise InputError("data_root must be a folder's name")
    _check_words([data_root])
    return data_root


def check_prepared(prepare: Any) -> dict[str, list[str]]:
    """Return the steps that make data, by name, as words; raises an InputError for another command."""
    if not isinstance(prepare, dict):
        raise InputError("prepare must be a mapping of names to commands")
    found: dict[str, list[str]] = {}
    for name, command in prepare.items():
        with in_one_line(f"prepare {str(name)!r}"):
            found[name] = _prepared(name, command)
    return found


def _prepared(name: Any, command: Any) -> list[str]:
    if not isinstance(command, str) or not isinstance(name, str) or "/" in name:
        raise InputError("give a name without '/', and a command as one text")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(str(error)) from error
    if words[:2] not in _COMMANDS:
        known = " or ".join(" ".join(known) for known in _COMMANDS)
        raise InputError(f"{command!r} must begin with {known}")
    if any(word.partition("=")[0] == "--out" for word in words):
        raise InputError("leave out --out: the suite chooses the folder")
    if joined := [word for word in words if word.startswith("--") and "=" in word]:
        raise InputError(f"write {joined[0].replace('=', ' ', 1)!r}, without '='")
    # Options begin with a dash here.
    _check_words([name, *(word.lstrip("-") for word in words)])
    return words


def split_made(word: str) -> tuple[str, str]:
    """Split `made:STEP/FOLDER` into step and folder; raises an InputError where it leads out."""
    step, _, below = word.removeprefix(MADE).partition("/")
    if not step or ".." in PurePosixPath(below).parts or below.startswith("/"):
        raise InputError(f"{word!r} is not of the form made:STEP or made:STEP/FOLDER")
    return step, below


def check_method(method: str) -> None:
    """Raise an InputError of a method's name that no command would take."""
    if not method or len(method) > _LONGEST_METHOD:
        raise InputError(
            f"a method's name has 1 to {_LONGEST_METHOD} letters, this one {len(method)}"
        )


def _words_of(mapping: dict[str, list[Any]]) -> Iterable[str]:
    return itertools.chain(mapping, (str(v) for values in mapping.values() for v in values))


def _check_words(words: Iterable[str]) -> None:
    for word in words:
        # A leading dash would be taken for an option.
        if word.startswith("-") and not _is_number(word):
            raise InputError(f"{word!r} begins with a dash, as options do")
        if not word.isprintable():
            raise InputError(f"{word!r} has a character that cannot be printed")


def _is_seed(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST_SEED


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
