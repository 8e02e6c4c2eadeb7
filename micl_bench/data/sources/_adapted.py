"""Images of plug-ins, in the form in which the package reads images."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from PIL import Image

from micl_bench.data.folder import Folder
from micl_bench.records.result import DataSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json


class Images(Protocol):
    """The object that a source's `open_images` returns."""

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
    numbers: dict[Path, int]
    """The number in the source of each image, by its path."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Return none: only the source knows where its images lie."""
        return ()

    @functools.cached_property
    def digest(self) -> str:
        """Return the source's own digest; of a part, one with the names of its images."""
        whole = self.given.describe().digest
        is_whole = len(self) == len(self.numbers)
        return whole if is_whole else digest_json([whole, self.names])

    def read(self, index: int, *, at_least: int = 0) -> Image.Image:
        """Decode an image, in full.

        Raises:
            InputError: the source does not give it.
        """
        path = self.paths[index]
        try:
            return self.given.image(self.numbers[path]).convert("RGB")
        except Exception as error:
            raise InputError(f"{path} cannot be read ({error})") from error

    def describe(self) -> DataSet:
        """Return the source's own description of these images."""
        return dataclasses.replace(
            self.given.describe(), images=len(self), digest=self.digest, left_out=self.left_out
        )


def adapted(root: Path, given: Images) -> AdaptedImages:
    """Check the images that a source returned, and return them as a folder.

    Args:
        root: the source's name and the place, as they were given.

    Raises:
        InputError: the source has no image, another number of labels than of names, a label that is no
            class, or a name that is no relative path or stands twice.
    """
    classes, names, labels = tuple(given.classes), tuple(given.names), tuple(map(int, given.labels))
    if found := "; ".join(_faults(classes, names, labels)):
        raise InputError(f"{root}: {found}")
    paths = tuple(root / name for name in names)
    return AdaptedImages(
        root=root,
        classes=classes,
        paths=paths,
        labels=labels,
        left_out=given.describe().left_out,
        given=given,
        numbers={path: number for number, path in enumerate(paths)},
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
    for name in names:
        path = PurePosixPath(name)
        if str(path) != name or path.is_absolute() or ".." in path.parts:
            return [*faults, f"the image name {name!r} is no plain relative path"]
    return faults
