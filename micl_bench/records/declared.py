"""Declarations of tasks and metrics, made once and repeated in every record beside its numbers.

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
"""The reason why a value is NaN, in general words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """The facts that a reader needs beside a number's value."""

    title: str
    """Its name in headers and sentences, without the unit: `top-1`."""
    unit: str = ""
    """`%`, `points` (of percent), `MiB`, ...; empty for a plain number."""
    better: Better = ""
    """The better direction; empty where neither is better, and nothing is ranked."""
    quoted: bool = False
    """People quote it: verdicts, bars and summaries show the quoted metrics of a task."""
    beside: str = ""
    """The metric in whose cell a table mentions this one; empty for none."""
    of_machine: bool = False
    """It measures the machine more than the model: another machine may not reproduce it."""

    @property
    def direction(self) -> int:
        """Return 1 where a higher value is better, -1 where a lower one is, 0 where neither is."""
        return {"higher": 1, "lower": -1, "": 0}[self.better]

    @property
    def header(self) -> str:
        """Return the title with its unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    @property
    def shown(self) -> str:
        """Return the header with an arrow to its better side, without formats of a family's title."""
        arrow = {"higher": " ↑", "lower": " ↓", "": ""}[self.better]
        return re.sub(r":[^}]*}", "}", self.header) + arrow

    @property
    def is_percentage(self) -> bool:
        """Return whether differences are points of a percentage."""
        return self.unit in PERCENTAGES

    def text(self, value: float) -> str:
        """Return a value as tables print it; a dash where it is not finite."""
        if not math.isfinite(value):
            return "–"
        if self.is_percentage:
            return f"{value:.1f}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

    def signed(self, difference: float) -> str:
        """Return a difference of two values as tables print it, with its sign."""
        text = self.text(difference)
        return text if text[0] in "-–" else f"+{text}"

    def interval_text(self, bounds: tuple[float, float]) -> str:
        """Return both ends as tables print them; `to` where a sign would read as a second dash."""
        low, high = map(self.text, bounds)
        return f"{low} to {high}" if "-" in low + high else f"{low}–{high}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric(Measure):
    """One metric of a task, or a family: `top1_k{k}` declares `top1_k10`, `top1_k20`, ...

    The title of a family may hold the same names in braces, with a format: `top-1 of {classes:,}`.
    """

    name: str
    """Its name in records and on the command line."""

    def called(self, name: str) -> Measure | None:
        """Return the facts of the metric of that name; None where the name is not of this family."""
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
    """A measured value with its 95 % interval and the facts of its metric."""

    value: float
    """The value in `unit`; NaN, null in JSON, where it is undefined."""
    low: float | None = None
    """Lower end of the interval; None, as `high`, where there is none."""
    high: float | None = None
    undefined: str = ""
    """The reason why the value is undefined; empty where it is not."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return both ends; None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def __str__(self) -> str:
        return self.text(self.value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """The facts of a task for reports."""

    title: str
    """Its name in headings."""
    short: str = ""
    """Its name in pictures; empty for the title."""
    place: int = 100
    """Its place in a report, by rising number, and then by name."""
    public_set: str = "imagenet"
    """The public set in whose place a user's own images are used; empty for that of the record."""
    downstream: bool = True
    """It measures the use of a pre-training, not the pre-training itself."""

    @property
    def label(self) -> str:
        """Return `short`, or else the title."""
        return self.short or self.title


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(About):
    """The declaration of a task: all that the command line, suites and reports know of it.

    Everything but name, title and metrics has a default.
    """

    name: str
    """Its name on the command line and in records, and that of its file."""
    metrics: tuple[Metric, ...]
    """Its metrics in the order of tables; the quoted ones are the task's headlines."""
    from_config: bool = False
    """Its recipe is an mmengine config; else a dataclass, `RECIPE`."""
    seed_key: str = "seed"
    """The setting of its recipe that seeds it."""
    draws: bool = True
    """Another seed may give another number for the same weights."""
    resumes: bool = False
    """It trains, leaves files of fixed names in its folder, and goes on from them."""
    leaves: str = ""
    """The checkpoint that it leaves in its folder for other tasks; empty for none."""
    shares_features: bool = False
    """It reads the stored features of a frozen backbone, which one run computes for all."""

    @property
    def about(self) -> About:
        """Return the facts that records repeat."""
        return About(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(About)}
        )

    def declares(self, name: str) -> bool:
        """Return whether a metric of that name is declared."""
        return any(metric.called(name) for metric in self.metrics)

    def measure(self, name: str) -> Measure:
        """Return the facts of a metric.

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
        """Return a measured value with the facts of its metric.

        Args:
            interval: both ends; empty, or not finite, for none.
            undefined: the reason why the value is NaN, if it is; empty for general words.

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
    """Return a pattern in which `top1_k{k}` matches `top1_k10`, with 10 as `k`."""
    parts = re.split(r"\{(\w+)\}", name)
    return re.compile(
        "".join(
            f"(?P<{part}>.+)" if index % 2 else re.escape(part) for index, part in enumerate(parts)
        )
    )
