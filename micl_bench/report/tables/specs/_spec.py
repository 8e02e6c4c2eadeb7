"""What a table is: its columns, the published numbers that belong into them, its baselines."""

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
"""What `pretraining_columns` knows of how a network came to be."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactColumn:
    """How a row's network came to be."""

    fact: Fact
    header: str
    group: str = ""


NETWORK = FactColumn(fact="arch", header="network")
EPOCHS = FactColumn(fact="epochs", header="epochs", group="pre-training")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreColumn:
    """One metric of one task on one public set, or on what stands in for it."""

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
    """The setting of pre-training that an ablation varies, all others being equal."""

    header: str
    path: str
    """Dotted name among the settings of a pre-training."""
    default: object = None
    """What the method's authors use, where that is known: the baseline."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One table, for each family of data sets that has records, and for published numbers alone."""

    title: str
    """Of any images: it names no data set."""
    caption: str
    rank: int
    """Tables come in this order."""
    columns: tuple[FactColumn | ScoreColumn, ...]
    baselines: tuple[str, ...] = ()
    """Methods; differences are from the first that a column has under one protocol and size."""
    axes: tuple[Axis, ...] = ()
    """One table for each; none where the table is no ablation."""
    public_title: str = ""
    """Of records of the public sets and of published numbers; `title` if empty."""
