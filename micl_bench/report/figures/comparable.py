"""Numbers that a figure may show beside each other: of one task, set of images, metric and protocol."""

from typing import NamedTuple

import pandas as pd

from micl_bench.records.result import DataSet
from micl_bench.report.frame.protocols import captions
from micl_bench.report.frame.selection import Selection


class Group(NamedTuple):
    """The common ground of such numbers."""

    place: tuple[int, str]
    """Place and name of the task."""
    label: str
    """Name of the task in pictures."""
    data: DataSet
    metric: str
    header: str
    """Title of the metric, with its unit."""
    protocol: str
    """Words that set the protocol apart from others of the task."""

    @property
    def title(self) -> str:
        """The task and the images."""
        return f"{self.label}, {self.data.name}"


def comparable(selection: Selection) -> pd.DataFrame:
    """Return the frame of the shown records by tasks, newest first, with the `group` of each row."""
    frame = selection.frame.sort_values("place", kind="stable", ignore_index=True)
    words: dict[str, str] = {}
    for task in selection.tasks:
        words |= captions(selection.of_task(task))
    groups = [
        Group(
            place=record.place,
            label=record.about.label,
            data=record.data,
            metric=metric,
            header=record.metrics[metric].header,
            protocol=words[record.id],
        )
        for record, metric in zip(frame["result"], frame["metric"], strict=True)
    ]
    return frame.assign(group=pd.Series(groups, dtype=object))
