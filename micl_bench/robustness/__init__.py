"""Shifted test sets, one declarative file a set: what it is, where it lies, what it is held against."""

import dataclasses
from pathlib import PurePosixPath


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessSet:
    """An image folder whose classes are some or all of a clean set's."""

    title: str
    """As tables print it."""
    folder: PurePosixPath
    """Below the data folder: `<folder>/<class>/<image>`."""
    clean: PurePosixPath
    """The clean set below the data folder; classes are matched by name, never by position."""
    description: str
