"""What a suite file declares: entries, and the checkpoints that they are of."""

import dataclasses
from pathlib import Path
from typing import Any


@dataclasses.dataclass(kw_only=True)
class Given:
    """A checkpoint that is there, or several that differ in the seed of their pre-training alone."""

    checkpoint: str = ""
    """A file, `timm:NAME`, `public:NAME` or `random:ARCH`."""
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """Instead of one: seed to file, of one pre-training, as `eval --pretrain-seed` states it."""
    method: str = ""
    """What tables call it; its name in the suite file if empty."""
    arch: str = ""
    """As `eval --arch` takes it, and so do `format`, `branch` and `pixels`."""
    format: str = ""
    branch: str = ""
    pixels: str = ""
    strict: bool = False
    """Refuse what would have to be guessed; its entry's if left out."""


@dataclasses.dataclass(kw_only=True)
class Made:
    """A checkpoint that the suite pre-trains."""

    recipe: str
    data: str
    method: str = ""
    overrides: list[str] = dataclasses.field(default_factory=list)
    one_at_a_time: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    """Key of the recipe to the values that replace its own, each in a pre-training of its own."""
    processes: int = 1
    """As many as its entry's if left out."""


@dataclasses.dataclass(kw_only=True)
class Entry:
    """Evaluations that share a task."""

    name: str
    """In the table, and how `of` names it."""
    task: str
    data: str
    """A folder, or `made:STEP/FOLDER` for what a step of `prepare` made."""
    checkpoints: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Name to checkpoint: a word, or the keys of `Given` or `Made`, which it then is."""
    methods: list[str] = dataclasses.field(default_factory=list)
    """Which of the checkpoints; all if empty."""
    of: list[str] = dataclasses.field(default_factory=list)
    """Names of earlier entries whose runs' classifiers take the place of checkpoints."""
    recipe: str = ""
    overrides: list[str] = dataclasses.field(default_factory=list)
    """`a.b=value` for each run, as `--set` takes them."""
    matrix: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    """Key to the values that are tried."""
    seeds: list[int] = dataclasses.field(default_factory=list)
    processes: int = 1
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
