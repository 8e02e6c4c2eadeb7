"""What a shifted test set is declared by."""

import dataclasses
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

Labels = Literal["folder names", "folder positions", "mappings", "image numbers"]
"""How a class folder, or an image, tells what it shows.

`folder names`: the folder is called as the class is, ImageNet's by WordNet id.
`folder positions`: the folder is called by the position of its class among ImageNet's 1000 WordNet ids
in sorted order. Only a set whose own documentation says so may declare it.
`mappings`: ObjectNet's files, which map a folder to one or several ImageNet classes.
`image numbers`: ImageNet's validation images with ReaL labels, which go by the number in the file name.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanSet:
    """The images of the original distribution, `<folder>/<class>/<image>`."""

    folder: PurePosixPath
    """Below the data folder."""
    classes: tuple[str, ...] = ()
    """Names in sorted order; empty for whatever class folders there are."""
    per_class: int | None = None
    """Images of each class; None for any number."""

    @property
    def images(self) -> int | None:
        """Images of all classes."""
        return self.per_class * len(self.classes) if self.per_class else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessSet:
    """An image folder, `<folder>/<class>/<image>`, whose classes are some or all of a clean set's."""

    title: str
    """As tables print it."""
    folder: PurePosixPath
    """Below the data folder, as the release is called when unpacked; a symbolic link will do."""
    clean: CleanSet
    """What the drop is measured against; classes are matched by name, never by position."""
    description: str
    paper: str = ""
    classes: tuple[str, ...] = ()
    """The clean set's names of its classes; empty where folders or mappings tell them."""
    num_classes: int | None = None
    """Where `classes` is empty but their number is known."""
    images: int | None = None
    """As released, of each part; None for any number."""
    per_class: int | None = None
    """Images of each class, where all have the same number."""
    labels: Labels = "folder names"
    reading: Literal["own classes", "all outputs"] = "all outputs"
    """Among which outputs of a classifier `top1` looks for the largest. The other reading is reported
    beside it where the set has fewer classes than the classifier."""
    corruptions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Where the set has a part for each corruption and severity, `<folder>/<corruption>/<severity>`:
    each corruption's top-1 error of AlexNet in percent, mean over severities, which mCE divides by."""
    severities: int = 5
    border: int = 0
    """Pixels on each side that are not part of the image."""
    is_cropped: bool = False
    """Whether images are stored as the centre crop already, which is not to be made a second time."""

    @property
    def parts(self) -> tuple[PurePosixPath, ...]:
        """Folders below the data folder that hold class folders."""
        if not self.corruptions:
            return (self.folder,)
        severities = range(1, self.severities + 1)
        return tuple(self.folder / name / str(s) for name in self.corruptions for s in severities)
