"""Few labels: images of a training folder, by a list of file names or drawn.

A list names an image per line, as those of SimCLR (`1percent.txt`, `10percent.txt`) and MSN do:
`n01440764_10026.JPEG`, or with its class folder, `n01440764/n01440764_10026.JPEG`, and with folders in
that where there are some. Names that are no text of one line are written as `name_text` writes them.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from micl_bench.data.folder import Folder
from micl_bench.data.image_files import shown_names
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json

_LONGEST_PATH = 150


def listed_images(folder: Folder, path: Path) -> Folder:
    """Return the images of a folder that a file list names, in the folder's order.

    Raises:
        InputError: the list cannot be read or is empty; a name is unknown, doubled, or fits several
            images; a class of the folder is not in the list.
    """
    places = _places(folder)
    names = [_known(line, places) for line in _read_lines(path)]
    if doubled := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"{path} names images more than once: {shown_names(doubled)}")
    if unknown := [name for name in names if name not in places]:
        raise InputError(f"{path} names images that {folder.root} lacks: {shown_names(unknown)}")
    if several := [name for name in names if len(places[name]) > 1]:
        raise InputError(
            f"{path} has names that fit several images, of several classes or folders: "
            f"{shown_names(several)}; write <class>/<name>"
        )
    chosen = [places[name][0] for name in names]
    if len(set(chosen)) < len(chosen):
        raise InputError(f"{path} names images more than once, with and without their class")
    few = folder.part(np.sort(np.array(chosen)))
    if absent := [name for name, number in count_by_class(few).items() if not number]:
        raise InputError(f"{path} names no image of: {shown_names(absent)}")
    return few


def drawn_images(folder: Folder, fraction: float, *, seed: int) -> Folder:
    """Draw the same share of each class, at least one image, by the seed.

    It is no published subset; results of different draws differ by more than those of one list.

    Raises:
        InputError: the fraction is outside 0 to 1.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction is {fraction}; needed: 0 < fraction <= 1")
    return folder.part(split_by_class(folder.labels_N, fraction, seed=seed)[0])


def split_by_class(
    labels_N: NDArray[np.integer], fraction: float, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a share of each class, at least one image, by the seed; return these and all others, sorted.

    A fraction of 0 draws nothing.
    """
    drawn: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels_N):
        index_n = np.flatnonzero(labels_N == label)
        order_n = np.random.default_rng((seed, int(label))).permutation(len(index_n))
        number = max(1, round(fraction * len(index_n))) if fraction else 0
        drawn.append(index_n[order_n[:number]])
    taken = np.sort(np.concatenate(drawn))
    return taken, np.setdiff1d(np.arange(len(labels_N)), taken)


def count_by_class(folder: Folder) -> dict[str, int]:
    """Count the images of each class, by name."""
    counts = np.bincount(folder.labels_N, minlength=len(folder.classes))
    return dict(zip(folder.classes, counts.tolist(), strict=True))


def digest_names(folder: Folder) -> str:
    """Return the SHA-256 of the images' names, the same for every copy of a subset."""
    return digest_json(sorted(folder.names))


def _read_lines(path: Path) -> list[str]:
    try:
        # Not `splitlines`: names may hold other characters that end a line somewhere.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"cannot read the file list {_brief(path)} ({reason})") from error
    if not (found := [line for line in lines if line.strip()]):
        raise InputError(f"the file list {path} is empty; it needs one image name per line")
    return found


def _places(folder: Folder) -> dict[str, list[int]]:
    """Return the images that a name may stand for: in full, without inner folders, or the file's."""
    whole = {image: [index] for index, image in enumerate(folder.names)}
    short: dict[str, list[int]] = {}
    for image, (index,) in whole.items():
        first, *_, last = image.split("/")
        for name in {last, f"{first}/{last}"}:
            short.setdefault(name, []).append(index)
    return short | whole


def _known(line: str, places: Mapping[str, object]) -> str:
    """Return the longest end of a line that is an image's name, without blanks around it or with.

    Some lists carry the whole path in their authors' tree. Without such an end the last two parts count.
    """
    for text in (line.strip(), line.rstrip("\r")):
        parts = PurePosixPath(text).parts
        # A class that is given stays part of the name.
        for first in range(max(1, len(parts) - 1)):
            if (name := "/".join(parts[first:])) in places:
                return name
    return "/".join(PurePosixPath(line.strip()).parts[-2:])


def _brief(path: Path) -> str:
    """Return a path, or its end where it is long."""
    text = str(path)
    return text if len(text) <= _LONGEST_PATH else f"...{text[3 - _LONGEST_PATH :]}"
