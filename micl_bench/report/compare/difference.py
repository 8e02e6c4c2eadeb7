"""The difference of two numbers, tested: on the same images, or over runs of several seeds."""

import dataclasses
import math

from micl_bench.records.declared import Number
from micl_bench.records.result import Record
from micl_bench.records.statistics import welch
from micl_bench.report.compare.artefact_files import evidence_of
from micl_bench.report.frame.entries import Entry
from micl_bench.runtime.errors import InputError

SIGNIFICANT = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """One contender's number less another's, in the metric's unit; of one protocol and images."""

    ours: Entry
    theirs: Entry
    letters: tuple[str, str]
    """The letters of the contenders."""
    interval: tuple[float, float] | None = None
    """The 95 % interval of the difference."""
    test: str = ""
    """`McNemar`, `bootstrap` or `Welch`; empty where nothing was tested."""
    p: float | None = None
    adjusted_p: float | None = None
    """The p-value adjusted by Holm's method over all tests of the call."""
    only_ours: int | None = None
    """Images that ours alone gets right; `only_theirs` likewise."""
    only_theirs: int | None = None
    note: str = ""
    """The reason why it was not tested."""

    @property
    def first(self) -> Record:
        """A record of the task, images and protocol that both are of."""
        return self.ours.first

    @property
    def metric(self) -> str:
        """The name of the metric in records."""
        return self.ours.metric

    @property
    def number(self) -> Number:
        """The first side's number, with everything that its metric declares."""
        return self.ours.number

    @property
    def estimate(self) -> float:
        """The mean of ours less the mean of theirs."""
        return self.ours.mean - self.theirs.mean

    @property
    def verdict(self) -> str:
        """The result of the test, in words."""
        if self.adjusted_p is None:
            return f"not tested{f': {self.note}' if self.note else ''}"
        if self.adjusted_p > SIGNIFICANT:
            return "no difference shown"
        way = self.number.direction
        better = self.letters[0 if self.estimate * (way or 1) > 0 else 1]
        return f"{better} is {'better' if way else 'higher'}"

    def tested(self) -> "Difference":
        """Return the same with a test: over the values where a side has several, else on the images.

        Raises:
            InputError: the evidence of a record is damaged, or not its own.
        """
        sides = list(zip(self.letters, (self.ours, self.theirs), strict=True))
        if max(len(side.values) for _, side in sides) > 1:
            few = [letter for letter, side in sides if len(side.values) < 2]
            return self._not(f"{few[0]} has a single run") if few else self._over_runs()
        return self._on_images()

    def _not(self, note: str) -> "Difference":
        return dataclasses.replace(self, note=note)

    def _over_runs(self) -> "Difference":
        low, high, p = welch(self.ours.values, self.theirs.values)
        if math.isnan(p):
            return self._not("the runs do not vary, or are not numbers")
        return dataclasses.replace(self, interval=(low, high), test="Welch", p=p)

    def _on_images(self) -> "Difference":
        ours, theirs = evidence_of(self.ours.first), evidence_of(self.theirs.first)
        if ours is None or theirs is None:
            pairs = zip(self.letters, (ours, theirs), strict=True)
            missing = " and ".join(letter for letter, kept in pairs if kept is None)
            return self._not(f"{missing} without per-image predictions")
        if ours.kind != theirs.kind:
            return self._not("the two records hold evidence of different kinds")
        try:
            found = ours.paired(theirs, self.metric)
        except InputError as error:
            return self._not(str(error))
        # As they were measured, not as a library rounds them.
        values = [evidence.metrics()[self.metric] for evidence in (ours, theirs)]
        return dataclasses.replace(
            self,
            ours=dataclasses.replace(self.ours, values=(values[0],)),
            theirs=dataclasses.replace(self.theirs, values=(values[1],)),
            interval=found.interval,
            test=found.test,
            p=found.p,
            only_ours=found.only_first,
            only_theirs=found.only_second,
        )
