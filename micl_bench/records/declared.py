"""What a task and its metrics state of themselves, once; every record repeats it beside its numbers.

A task's file makes a `Task` of `Metric`s. A record holds the task's `About` and a `Number` for each
metric, so that it is read, ranked and printed without the code that made it.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from typing import Literal

from micl_bench.runtime.errors import InputError

Better = Literal["higher", "lower", ""]

PERCENTAGES = ("%", "points")
"""Units that tables print with one decimal; others have four significant digits."""


UNDEFINED = "these images do not define it"
"""Why a value is NaN, where nobody says more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """What a reader must know of a number, beside its value."""

    title: str
    """As headers and sentences print it, without the unit: `top-1`."""
    unit: str = ""
    """`%`, `points` (of percent), `MiB`, ...; empty for a plain number."""
    better: Better = ""
    """Which way is better; empty where neither is, and nothing is ranked."""
    quoted: bool = False
    """Whether people quote it: verdicts, bars and summaries show the quoted metrics of a task."""
    beside: str = ""
    """The metric in whose cell a table mentions this one; empty for none."""
    of_machine: bool = False
    """Whether it measures the machine more than the model: another machine may not reproduce it."""

    @property
    def direction(self) -> int:
        """1 where a higher value is better, -1 where a lower one is, 0 where neither is."""
        return {"higher": 1, "lower": -1, "": 0}[self.better]

    @property
    def header(self) -> str:
        """The title with its unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    @property
    def shown(self) -> str:
        """The header with an arrow to its better side, the formats of a family's title left out."""
        arrow = {"higher": " ↑", "lower": " ↓", "": ""}[self.better]
        return re.sub(r":[^}]*}", "}", self.header) + arrow

    @property
    def is_percentage(self) -> bool:
        """Whether differences are points of a percentage."""
        return self.unit in PERCENTAGES

    def text(self, value: float) -> str:
        """A value as tables print it; a dash where it is not finite."""
        if not math.isfinite(value):
            return "–"
        if self.is_percentage:
            return f"{value:.1f}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

    def signed(self, difference: float) -> str:
        """A difference of two values as tables print it, with its sign."""
        text = self.text(difference)
        return text if text[0] in "-–" else f"+{text}"

    def interval_text(self, bounds: tuple[float, float]) -> str:
        """Both ends as tables print them; `to` where a sign would read as a second dash."""
        low, high = map(self.text, bounds)
        return f"{low} to {high}" if "-" in low + high else f"{low}–{high}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric(Measure):
    """One metric of a task, or a family: `top1_k{k}` declares `top1_k10`, `top1_k20`, ...

    The title of a family may hold the same names in braces, with a format: `top-1 of {classes:,}`.
    """

    name: str
    """As records and the command line have it."""

    def called(self, name: str) -> Measure | None:
        """What is declared of the metric of that name; None where the name is not of this family."""
        found = _pattern(self.name).fullmatch(name)
        if found is None:
            return None
        values = {
            key: int(text) if text.isdigit() else text for key, text in found.groupdict().items()
        }
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(Measure)}
        return Measure(**facts | {"title": self.title.format(**values) if values else self.title})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number(Measure):
    """A measured value with its 95 % interval, and all that its metric's declaration states."""

    value: float
    """In `unit`; NaN, null in JSON, where it is undefined."""
    low: float | None = None
    """Lower end of the interval; None, as `high`, where there is none."""
    high: float | None = None
    undefined: str = ""
    """Why the value is undefined; empty where it is not."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends; None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def __str__(self) -> str:
        return self.text(self.value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What a report must know of a task."""

    title: str
    """As headings print it."""
    short: str = ""
    """As pictures print it; empty for the title."""
    place: int = 100
    """Where it stands in a report, by rising number, and then by name."""
    public_set: str = "imagenet"
    """The public set in whose place anybody's own images are used; empty for that of the record."""
    downstream: bool = True
    """Whether it measures what a pre-training is good for, not the pre-training itself."""

    @property
    def label(self) -> str:
        """`short`, or else the title."""
        return self.short or self.title


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(About):
    """The declaration of a task: all that the command line, suites and reports know of it.

    Everything but name, title and metrics has a default.
    """

    name: str
    """As the command line and records have it, and the file is called."""
    metrics: tuple[Metric, ...]
    """In the order of tables; the quoted ones are the task's headlines."""
    from_config: bool = False
    """Whether its recipe is an mmengine config; else a dataclass, `RECIPE`."""
    seed_key: str = "seed"
    """The setting of its recipe that seeds it."""
    draws: bool = True
    """Whether another seed may give another number for the same weights."""
    resumes: bool = False
    """Whether it trains, leaves files of fixed names in its folder, and goes on from them."""
    leaves: str = ""
    """The checkpoint that it leaves in its folder for other tasks; empty for none."""
    shares_features: bool = False
    """Whether it reads the stored features of a frozen backbone, which one run computes for all."""

    @property
    def about(self) -> About:
        """What records repeat."""
        return About(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(About)}
        )

    def declares(self, name: str) -> bool:
        """Whether a metric of that name is declared."""
        return any(metric.called(name) for metric in self.metrics)

    def measure(self, name: str) -> Measure:
        """What is declared of a metric.

        Raises:
            InputError: the task declares no metric of that name.
        """
        for metric in self.metrics:
            if found := metric.called(name):
                return found
        known = ", ".join(metric.name for metric in self.metrics)
        raise InputError(
            f"task {self.name!r} measured {name!r}, which it does not declare; declared: {known}"
        )

    def number(
        self,
        name: str,
        value: float,
        *,
        interval: Sequence[float] = (),
        undefined: str = "",
    ) -> Number:
        """A measured value with all that is declared of its metric.

        Args:
            interval: both ends; empty, or not finite, for none.
            undefined: why the value is NaN, where it is; in general words if empty.

        Raises:
            InputError: the task declares no metric of that name.
        """
        low, high = interval if interval and all(map(math.isfinite, interval)) else (None, None)
        return Number(
            **vars(self.measure(name)),
            value=value,
            low=low,
            high=high,
            undefined=(undefined or UNDEFINED) if math.isnan(value) else "",
        )


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    """`top1_k{k}` matches `top1_k10`, with 10 as `k`."""
    parts = re.split(r"\{(\w+)\}", name)
    return re.compile(
        "".join(
            f"(?P<{part}>.+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)
        )
    )
