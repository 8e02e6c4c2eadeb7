"""The declaration of a table: its columns, the published numbers in them, its baselines."""

import dataclasses
from typing import Literal

Fact = Literal[
    "arch",
    "input",
    "pretrain_data",
    "epochs",
    "device_hours",
    "wall_hours",
    "hardware",
    "other_cost",
]
"""The facts on a network that `pretraining_columns` has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactColumn:
    """A fact on a row's network."""

    fact: Fact
    header: str
    group: str = ""


NETWORK = FactColumn(fact="arch", header="network")
EPOCHS = FactColumn(fact="epochs", header="epochs", group="pre-training")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreColumn:
    """One metric of one task on one public set, or on its stand-in."""

    tasks: tuple[str, ...]
    metric: str = ""
    """Empty where all numbers are published ones."""
    header: str
    group: str = ""
    data: str = "imagenet"
    """The public set, as `names.family` calls it."""
    labels: float | None = 1.0
    """Share of the training labels that were used, where the task has any; None for whichever."""
    published: tuple[tuple[str, str], ...] = ()
    """Task and metric in the published ledger."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """The setting of pre-training that an ablation varies, while all others are equal."""

    header: str
    path: str
    """Dotted name among the settings of a pre-training."""
    default: object = None
    """The value of the method's authors, where it is known: the baseline."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table, made once per family of data sets that has records, and once of published numbers."""

    title: str
    """Title for any images, without the name of a data set."""
    caption: str
    rank: int
    """Tables come in this order."""
    columns: tuple[FactColumn | ScoreColumn, ...]
    baselines: tuple[str, ...] = ()
    """Methods; differences are from the first that a column has under one protocol and size."""
    axes: tuple[Axis, ...] = ()
    """Axes of an ablation, each with a table; empty for other tables."""
    public_title: str = ""
    """Title for records of the public sets and for published numbers; `title` if empty."""
