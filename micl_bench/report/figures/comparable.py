"""Numbers that a figure may show beside each other: of one task, set of images, metric and protocol."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from micl_bench.records.result import DataSet, Record
from micl_bench.report.frame.identity import Identity, network_of
from micl_bench.report.frame.protocols import captions
from micl_bench.report.frame.selection import Selection


class Group(NamedTuple):
    """What such numbers have in common."""

    place: tuple[int, str]
    """Of the task, which is its second part."""
    label: str
    """The task's."""
    data: DataSet
    metric: str
    header: str
    """The metric's, with its unit."""
    protocol: str
    """What to call it among those of the task."""

    @property
    def title(self) -> str:
        """The task and the images."""
        return f"{self.label}, {self.data.name}"


Networks = dict[Identity, list[Record]]
"""The records of each network, which differ in seeds alone: networks and records newest first."""


def comparable(
    selection: Selection, metrics_of: Callable[[Record], Iterable[str]]
) -> dict[Group, Networks]:
    """The shown records by what their numbers can be held against, in the order of tasks."""
    found: dict[Group, Networks] = {}
    for task in selection.tasks:
        own = selection.of_task(task)
        words = captions(own)
        for record in own:
            about = record.about
            for metric in metrics_of(record):
                header, protocol = record.metrics[metric].header, words[record.id]
                group = Group(record.place, about.label, record.data, metric, header, protocol)
                found.setdefault(group, {}).setdefault(network_of(record), []).append(record)
    return found
