"""The images of a source from outside, as all of the package reads images."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from micl_bench.data.folder import Folder
from micl_bench.records.result import DataSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json


class Images(Protocol):
    """What a source's `open_images` returns."""

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def labels(self) -> Sequence[int]: ...

    def image(self, index: int, /) -> Image.Image: ...

    def describe(self) -> DataSet: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptedImages(Folder):
    """A folder without files: its paths are the source's name, the place and an image's name."""

    given: Images
    rows: tuple[int, ...]
    """Of the images here, their numbers in the source."""

    @property
    def files(self) -> tuple[Path, ...]:
        """None: only the source knows where its images lie."""
        return ()

    @functools.cached_property
    def digest(self) -> str:
        """The source's own; of a part, with the names of its images."""
        whole = self.given.describe().digest
        is_whole = len(self) == len(self.given.names)
        return whole if is_whole else digest_json([whole, self.names])

    def read(self, index: int, *, at_least: int = 0) -> Image.Image:
        """Decode an image, in full.

        Raises:
            InputError: the source does not give it.
        """
        try:
            return self.given.image(self.rows[index]).convert("RGB")
        except Exception as error:
            raise InputError(f"{self.paths[index]} cannot be read ({error})") from error

    def describe(self) -> DataSet:
        """As the source describes itself."""
        return dataclasses.replace(
            self.given.describe(), images=len(self), digest=self.digest, left_out=self.left_out
        )

    def part(self, index_n: NDArray[np.integer]) -> "AdaptedImages":
        """These images alone; labels keep their numbers."""
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[i] for i in index_n),
            labels=tuple(self.labels[i] for i in index_n),
            rows=tuple(self.rows[i] for i in index_n),
        )


def adapted(root: Path, given: Images) -> AdaptedImages:
    """What a source from outside returned, checked.

    Args:
        root: the source's name and the place, as they were given.

    Raises:
        InputError: it has no image, another number of labels than of names, a label that is no class,
            or a name that is no relative path or stands twice.
    """
    classes, names, labels = tuple(given.classes), tuple(given.names), tuple(map(int, given.labels))
    found = "; ".join(_faults(classes, names, labels))
    if found:
        raise InputError(f"{root}: {found}")
    return AdaptedImages(
        root=root,
        classes=classes,
        paths=tuple(root / name for name in names),
        labels=labels,
        left_out=given.describe().left_out,
        given=given,
        rows=tuple(range(len(names))),
    )


def _faults(classes: tuple[str, ...], names: tuple[str, ...], labels: tuple[int, ...]) -> list[str]:
    faults = []
    if not names:
        faults.append("the source has no image")
    if len(labels) != len(names):
        faults.append(f"{len(labels)} labels for {len(names)} images")
    if strange := [label for label in labels if not 0 <= label < len(classes)]:
        faults.append(f"the label {strange[0]} is none of the {len(classes)} classes")
    for kind, words in (("class", classes), ("image", names)):
        if doubled := [word for word, times in Counter(words).items() if times > 1]:
            faults.append(f"the {kind} {doubled[0]!r} stands twice")
    unplain = [name for name in names if str(PurePosixPath(name)) != name or _leads_out(name)]
    if unplain:
        faults.append(f"the image name {unplain[0]!r} is no plain relative path")
    return faults


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")
