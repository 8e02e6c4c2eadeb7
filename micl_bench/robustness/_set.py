"""The declaration of a shifted test set."""

import dataclasses
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

Labels = Literal["folder names", "folder positions", "mappings", "image numbers"]
"""The labels of a set's images come from one of these.

`folder names`: the folder has its class's name, ImageNet's a WordNet id.
`folder positions`: the folder has the position of its class among ImageNet's 1000 WordNet ids in sorted
order. Only a set whose own documentation says so may declare it.
`mappings`: ObjectNet's files map a folder to one or several ImageNet classes.
`image numbers`: ImageNet's validation images have ReaL labels by the number in the file name.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanSet:
    """The images of the original distribution, `<folder>/<class>/<image>`."""

    folder: PurePosixPath
    """Below the data folder."""
    classes: tuple[str, ...] = ()
    """Class names in sorted order; empty for the class folders there are."""
    per_class: int | None = None
    """Images of each class; None for any number."""

    @property
    def images(self) -> int | None:
        """Return the images of all classes, or None for any number."""
        return self.per_class * len(self.classes) if self.per_class else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessSet:
    """An image folder, `<folder>/<class>/<image>`, whose classes are some or all of a clean set's."""

    title: str
    """Its name in tables."""
    folder: PurePosixPath
    """Below the data folder, as the release is called when unpacked; a symbolic link will do."""
    clean: CleanSet
    """The drop is measured against it; classes are matched by name, never by position."""
    description: str
    paper: str = ""
    classes: tuple[str, ...] = ()
    """The clean set's names of its classes; empty where folders or mappings have them."""
    num_classes: int | None = None
    """The number of classes, where it is known and `classes` is empty."""
    images: int | None = None
    """Images of each part, as released; None for any number."""
    per_class: int | None = None
    """Images of each class, where all have the same number."""
    labels: Labels = "folder names"
    reading: Literal["own classes", "all outputs"] = "all outputs"
    """`top1` looks for the largest among these outputs of a classifier. The other reading is reported
    beside it where the set has fewer classes than the classifier."""
    corruptions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """AlexNet's top-1 error on each corruption, in percent, mean over severities, which mCE divides by.
    The set has a part per corruption and severity then, `<folder>/<corruption>/<severity>`."""
    severities: int = 5
    border: int = 0
    """Pixels on each side that are not part of the image."""
    is_cropped: bool = False
    """Images are stored as the centre crop already, which must not be made a second time."""

    @property
    def parts(self) -> tuple[PurePosixPath, ...]:
        """Return the folders below the data folder that hold class folders."""
        if not self.corruptions:
            return (self.folder,)
        severities = range(1, self.severities + 1)
        return tuple(self.folder / name / str(s) for name in self.corruptions for s in severities)
