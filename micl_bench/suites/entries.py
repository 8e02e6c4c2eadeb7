"""What a suite file declares: entries, and the checkpoints that they are of."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

PlainWord = Annotated[str, Meta(description="a word (in quotes, if it looks like something else)")]
Override = Annotated[str, Meta(pattern="=", description="a text of the form a.b=value")]
Seed = Annotated[int, Meta(ge=0, le=(1 << 63) - 1, description="a whole number from 0 to 2^63 - 1")]
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
    """What tables call it; its name in the suite file if empty."""
    arch: PlainWord = ""
    """As `eval --arch` takes it, and so do `format`, `branch` and `pixels`."""
    format: PlainWord = ""
    branch: PlainWord = ""
    pixels: PlainWord = ""
    strict: bool = False
    """Refuse what would have to be guessed; its entry's if left out."""


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
    """As many as its entry's if left out."""


@dataclasses.dataclass(kw_only=True)
class Entry:
    """Evaluations that share a task."""

    name: PlainWord
    """In the table, and how `of` names it."""
    task: PlainWord
    data: PlainWord
    """A folder, or `made:STEP/FOLDER` for what a step of `prepare` made."""
    checkpoints: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Name to checkpoint: a word, or the keys of `Given` or `Made`, which it then is."""
    methods: list[PlainWord] = dataclasses.field(default_factory=list)
    """Which of the checkpoints; all if empty."""
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
    """Refuse checkpoints of which something would have to be guessed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteFile:
    """A suite file, checked as far as that can be without looking at anything it names."""

    path: Path
    prepare: dict[str, list[str]]
    """Name of a step to the words of its command, less `--out`."""
    data_root: str
    entries: list[Entry]
